/* The type of `intake`: how it is made, and what Python calls. */

/* Whether a tuple has narrow texts alone. */
static int
are_narrow(PyObject *texts)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++) {
        if (!is_narrow(PyTuple_GET_ITEM(texts, i))) {
            return 0;
        }
    }
    return 1;
}

static PyObject *
intake_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "connection_type", "request_type", "family", "keeps_input", "max_vars_bytes", "max_vars",
        "max_body_bytes", "max_requests", "flights", "arrived", "host", "select", "take", "listening",
        "file_prefixes", "looks", "admits", NULL,
    };
    module_state *state = PyType_GetModuleState(type);
    intake *self = (intake *)type->tp_alloc(type, 0);
    PyTypeObject *connection_type, *request_type;
    PyObject *flights, *arrived, *host, *select, *take, *prefixes, *admits;
    struct stat found;
    int listening;
    if (self == NULL
        || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "$O!O!ipnnLlOOOOOiO!pO:Intake", names, &PyType_Type, &connection_type, &PyType_Type,
            &request_type, &self->family, &self->keeps_input_in_kernel, &self->limits.max_vars_bytes,
            &self->limits.max_vars, &self->limits.max_body_bytes, &self->max_requests, &flights, &arrived, &host,
            &select, &take, &listening, &PyTuple_Type, &prefixes, &self->looks, &admits))
    {
        Py_XDECREF(self);
        return NULL;
    }
    if (!PyType_IsSubtype(connection_type, state->fields_type)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_TypeError, "a connection is made of a class that is derived from ConnectionFields");
        return NULL;
    }
    if (!are_narrow(prefixes)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_TypeError, "prefixes of files are texts of latin-1, as PATH_INFO has them");
        return NULL;
    }
    if (!hold_cells(&self->arrived, arrived, 1)) {
        Py_DECREF(self);
        return NULL;
    }
    if (fstat(listening, &found) < 0) {
        Py_DECREF(self);
        return raise_errno();
    }
    self->device = found.st_dev;
    self->inode = found.st_ino;
    self->connection_type = (PyTypeObject *)Py_NewRef(connection_type);
    self->limits.request_type = (PyTypeObject *)Py_NewRef(request_type);
    self->limits.flags = self->keeps_input_in_kernel ? MSG_PEEK : 0;
    self->flights = Py_NewRef(flights);
    self->host = Py_NewRef(host);
    self->select = Py_NewRef(select);
    self->take = Py_NewRef(take);
    if (admits != Py_None) {
        self->admits = Py_NewRef(admits);
    }
    if (PyTuple_GET_SIZE(prefixes)) {
        self->file_prefixes = Py_NewRef(prefixes);
    }
    return (PyObject *)self;
}

static int
intake_traverse(intake *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->connection_type);
    Py_VISIT(self->limits.request_type);
    Py_VISIT(self->flights);
    Py_VISIT(self->host);
    Py_VISIT(self->select);
    Py_VISIT(self->take);
    Py_VISIT(self->file_prefixes);
    Py_VISIT(self->admits);
    return 0;
}

static int
intake_clear(intake *self)
{
    Py_CLEAR(self->connection_type);
    Py_CLEAR(self->limits.request_type);
    Py_CLEAR(self->flights);
    Py_CLEAR(self->host);
    Py_CLEAR(self->select);
    Py_CLEAR(self->take);
    Py_CLEAR(self->file_prefixes);
    Py_CLEAR(self->admits);
    return 0;
}

static void
intake_dealloc(intake *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    intake_clear(self);
    drop_cells(&self->arrived);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef intake_methods[] = {
    {"accept", (PyCFunction)(void (*)(void))intake_accept, METH_FASTCALL, intake_accept_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef intake_members[] = {
    {"failed", T_INT, offsetof(intake, failed), READONLY, "The errno that the next call raises, or 0."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(intake_doc,
"Accepts the connections of one listening socket in batches, and hands plain requests to their host.");

static PyType_Slot intake_slots[] = {
    {Py_tp_doc, (void *)intake_doc},
    {Py_tp_new, intake_new},
    {Py_tp_dealloc, intake_dealloc},
    {Py_tp_traverse, intake_traverse},
    {Py_tp_clear, intake_clear},
    {Py_tp_methods, intake_methods},
    {Py_tp_members, intake_members},
    {0, NULL},
};

static PyType_Spec intake_spec = {
    .name = "uwsgibridge.fast._fast.Intake",
    .basicsize = sizeof(intake),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = intake_slots,
};
