/* What `receive` and `send` give: an awaitable that does its work at the first step, as a coroutine does.

   In the plain case it is done after that step. Else it makes the coroutine of Python that does the work, and is that
   coroutine from then on. Nothing has been changed when it does so. */

/* How far an awaitable has come. */
enum { STEP_FRESH, STEP_DELEGATED, STEP_RUNNING, STEP_DONE };

/* What an awaitable does. */
enum { OF_RECEIVE, OF_SEND };

static const char *const STEP_NAMES[] = {"receive", "send"};
static const char *const STEP_QUALIFIED_NAMES[] = {"HttpExchange.receive", "HttpExchange.send"};

typedef struct {
    PyObject_HEAD
    PyObject *exchange;  /* NULL once it is done */
    PyObject *message;   /* of `send`; NULL once it is done */
    PyObject *delegate;  /* the coroutine of Python, or NULL */
    char kind;
    char progress;
} step;

/* Do the plain case: 1 with a new reference to the result, or 0 where it is not mine, or -1 with an error. What is not
   mine may set a coroutine that is to go on; else that is the one of Python for the whole work. In `asgi.h`. */
static int take_step(step *self, PyObject **result);

static void
step_drop(step *self)
{
    self->progress = STEP_DONE;
    Py_CLEAR(self->exchange);
    Py_CLEAR(self->message);
    Py_CLEAR(self->delegate);
}

/* Make the coroutine of Python for the whole work; false with an error. */
static int
step_delegate(step *self)
{
    PyObject *name = PyUnicode_InternFromString(STEP_NAMES[(int)self->kind]);
    if (name == NULL) {
        return 0;
    }
    PyObject *args[] = {self->exchange, self->message};
    size_t count = self->kind == OF_SEND ? 2 : 1;
    self->delegate = PyObject_VectorcallMethod(name, args, count, NULL);
    Py_DECREF(name);
    return self->delegate != NULL;
}

/* Raise what a coroutine raises that is used in the wrong state; false where the state is a right one. */
static int
step_refuses(const step *self)
{
    if (self->progress == STEP_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return 1;
    }
    if (self->progress == STEP_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return 1;
    }
    return 0;
}

/* Begin; the result is as that of `step_send`, or PYGEN_NEXT with no result where a coroutine goes on. */
static PySendResult
step_begin(step *self, PyObject *value, PyObject **result)
{
    if (value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    self->progress = STEP_RUNNING;
    int done = take_step(self, result);
    if (done == 0 && (self->delegate != NULL || step_delegate(self))) {
        return PYGEN_NEXT;
    }
    step_drop(self);
    return done > 0 ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult
step_send(step *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (step_refuses(self)) {
        return PYGEN_ERROR;
    }
    if (self->progress == STEP_FRESH) {
        PySendResult begun = step_begin(self, value, result);
        if (begun != PYGEN_NEXT) {
            return begun;
        }
    }
    self->progress = STEP_RUNNING;
    PySendResult state = PyIter_Send(self->delegate, value, result);
    if (state == PYGEN_NEXT) {
        self->progress = STEP_DELEGATED;
    }
    else {
        step_drop(self);
    }
    return state;
}

/* Give what was yielded, or raise StopIteration with what was returned. */
static PyObject *
step_outcome(PySendResult state, PyObject *result)
{
    if (state != PYGEN_RETURN) {
        return result;
    }
    /* An instance: of a class alone, a tuple would be taken for its arguments. */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyObject *
step_next(step *self)
{
    PyObject *result;
    PySendResult state = step_send(self, Py_None, &result);
    return step_outcome(state, result);
}

PyDoc_STRVAR(step_send_doc,
"send(value, /)\n--\n\n"
"Go on, as the method of a coroutine.");

static PyObject *
step_send_method(step *self, PyObject *value)
{
    PyObject *result;
    PySendResult state = step_send(self, value, &result);
    return step_outcome(state, result);
}

PyDoc_STRVAR(step_throw_doc,
"throw(type, value=None, traceback=None, /)\n--\n\n"
"Raise an exception where the coroutine waits, as the method of a coroutine.");

static PyObject *
step_throw(step *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "throw takes one to three arguments");
        return NULL;
    }
    if (step_refuses(self)) {
        return NULL;
    }
    /* A coroutine that has not begun raises at its beginning, and is done. */
    if (self->progress == STEP_FRESH && !step_delegate(self)) {
        step_drop(self);
        return NULL;
    }
    PyObject *given[] = {self->delegate, args[0], count > 1 ? args[1] : NULL, count > 2 ? args[2] : NULL};
    PyObject *name = PyUnicode_InternFromString("throw");
    if (name == NULL) {
        return NULL;
    }
    self->progress = STEP_RUNNING;
    PyObject *yielded = PyObject_VectorcallMethod(name, given, count + 1, NULL);
    Py_DECREF(name);
    if (yielded == NULL) {
        step_drop(self);
    }
    else {
        self->progress = STEP_DELEGATED;
    }
    return yielded;
}

PyDoc_STRVAR(step_close_doc,
"close()\n--\n\n"
"End it, as the method of a coroutine.");

static PyObject *
step_close(step *self, PyObject *Py_UNUSED(ignored))
{
    if (self->progress == STEP_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    PyObject *closed = Py_NewRef(Py_None);
    if (self->progress == STEP_DELEGATED) {
        self->progress = STEP_RUNNING;
        Py_SETREF(closed, PyObject_CallMethod(self->delegate, "close", NULL));
    }
    step_drop(self);
    return closed;
}

/* Warn of an awaitable that nobody has awaited, as of a coroutine. An exception that is on its way stays so. */
static void
step_finalize(step *self)
{
    if (self->progress != STEP_FRESH) {
        return;
    }
    self->progress = STEP_DONE;
    raised_error raised = set_error_aside();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited",
                         STEP_QUALIFIED_NAMES[(int)self->kind]) < 0)
    {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    bring_error_back(raised);
}

static int
step_traverse(step *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->exchange);
    Py_VISIT(self->message);
    Py_VISIT(self->delegate);
    return 0;
}

static int
step_clear(step *self)
{
    Py_CLEAR(self->exchange);
    Py_CLEAR(self->message);
    Py_CLEAR(self->delegate);
    return 0;
}

static void
step_dealloc(step *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->progress == STEP_FRESH && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return; /* somebody who was warned keeps it */
    }
    PyObject_GC_UnTrack(self);
    step_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
step_name(step *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(STEP_NAMES[(int)self->kind]);
}

static PyObject *
step_qualified_name(step *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(STEP_QUALIFIED_NAMES[(int)self->kind]);
}

static PyMethodDef step_methods[] = {
    {"send", (PyCFunction)step_send_method, METH_O, step_send_doc},
    {"throw", (PyCFunction)(void (*)(void))step_throw, METH_FASTCALL, step_throw_doc},
    {"close", (PyCFunction)step_close, METH_NOARGS, step_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef step_attributes[] = {
    {"__name__", (getter)step_name, NULL, "The name, as of a coroutine.", NULL},
    {"__qualname__", (getter)step_qualified_name, NULL, "The qualified name, as of a coroutine.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(step_doc,
"What `receive` and `send` of a request give: a coroutine, which is done after the first step in the plain case.");

static PyType_Slot step_slots[] = {
    {Py_tp_doc, (void *)step_doc},
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_finalize, step_finalize},
    {Py_tp_traverse, step_traverse},
    {Py_tp_clear, step_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, step_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, step_send},
    {Py_tp_methods, step_methods},
    {Py_tp_getset, step_attributes},
    {0, NULL},
};

static PyType_Spec step_spec = {
    .name = "uwsgibridge.fast._fast.Step",
    .basicsize = sizeof(step),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = step_slots,
};
