/* Packets, as `protocol.packet` has them. */

#define HEADER_BYTES 4
#define MODIFIER_REQUEST 0
#define MODIFIER_STRIP_SCRIPT_NAME 30
#define MODIFIER_PING 100

/* The u16le at a place. */
static inline Py_ssize_t
size_at(const unsigned char *place)
{
    return place[0] | place[1] << 8;
}

/* Which of the vars that mean something here has this name; -1 for none. */
static int
which_var(PyObject *name)
{
    for (int i = 0; i < VARS; i++) {
        if (is_word(name, VAR_NAMES[i], (Py_ssize_t)strlen(VAR_NAMES[i]))) {
            return i;
        }
    }
    return -1;
}

/* Read the vars between `place` and `end` into `vars`, and note in `known` those that mean something here.

   Gives 1 where that went well, 0 where they are not mine, -1 with an error. Nothing here runs Python code,
   or lets another thread use what is kept: else that could change meanwhile. */
static int
read_vars(module_state *state, const unsigned char *place, const unsigned char *end, Py_ssize_t most,
          PyObject *vars, known_vars *known)
{
    Py_ssize_t count = 0;
    memo *mine = memo_of(state);
    if (mine == NULL) {
        return -1;
    }
    while (place < end) {
        if (end - place < 2) {
            return 0;
        }
        Py_ssize_t name_size = size_at(place);
        place += 2;
        if (!name_size || end - place < name_size + 2 || count == most) {
            return 0;
        }
        const char *name_data = (const char *)place;
        place += name_size;
        Py_ssize_t value_size = size_at(place);
        place += 2;
        if (end - place < value_size) {
            return 0;
        }
        kept_var unkept = {0};
        kept_var *kept = count < KEPT_VARS ? &mine->kept[count] : &unkept;
        /* A new text is never where this one is, which still lives when the new one is made. */
        const PyObject *before = kept->name;
        PyObject *name = text_at(&kept->name, name_data, name_size, count < KEPT_VARS ? KEPT_NAME_BYTES : -1);
        if (name == NULL) {
            return -1;
        }
        if (kept->name != before) {
            kept->which = which_var(name);
        }
        int which = kept->name == name ? kept->which : which_var(name);
        PyObject *value = text_at(&kept->value, (const char *)place, value_size,
                                  count < KEPT_VARS ? KEPT_VALUE_BYTES : -1);
        int failed = value == NULL || PyDict_SetItem(vars, name, value) < 0;
        Py_DECREF(name);
        Py_XDECREF(value);
        if (failed) {
            return -1;
        }
        if (which >= 0) {
            known->values[which] = value;
        }
        place += value_size;
        count++;
    }
    return PyDict_GET_SIZE(vars) == count;  /* else one came twice */
}

/* Make a named tuple of `type` for a packet; steals nothing. */
static PyObject *
make_packet(PyTypeObject *type, int modifier1, PyObject *vars, Py_ssize_t size)
{
    PyObject *modifier = PyLong_FromLong(modifier1);
    PyObject *size_bytes = PyLong_FromSsize_t(size);
    PyObject *packet = modifier != NULL && size_bytes != NULL ? type->tp_alloc(type, 3) : NULL;
    if (packet == NULL) {
        Py_XDECREF(modifier);
        Py_XDECREF(size_bytes);
        return NULL;
    }
    PyTuple_SET_ITEM(packet, 0, modifier);
    PyTuple_SET_ITEM(packet, 1, Py_NewRef(vars));
    PyTuple_SET_ITEM(packet, 2, size_bytes);
    return packet;
}

/* Find the vars of a packet at the start of `data`. Gives a new dict, in `known` those of its vars that mean something
   here, and in `*end` where the packet ends; NULL where that is not mine, or with an error. */
static PyObject *
find_vars(module_state *state, const unsigned char *data, Py_ssize_t have, Py_ssize_t max_vars_bytes,
          Py_ssize_t max_vars, known_vars *known, Py_ssize_t *end)
{
    if (have < HEADER_BYTES
        || (data[0] != MODIFIER_REQUEST && data[0] != MODIFIER_STRIP_SCRIPT_NAME && data[0] != MODIFIER_PING))
    {
        return NULL;
    }
    Py_ssize_t size = size_at(data + 1);
    if (size > max_vars_bytes || have - HEADER_BYTES < size) {
        return NULL;
    }
    PyObject *vars = PyDict_New();
    *known = (known_vars){0};
    if (vars != NULL
        && read_vars(state, data + HEADER_BYTES, data + HEADER_BYTES + size, max_vars, vars, known) <= 0)
    {
        Py_CLEAR(vars);
    }
    *end = HEADER_BYTES + size;
    return vars;
}

PyDoc_STRVAR(parse_packet_doc,
"parse_packet(buffer, max_vars_bytes, max_vars, packet_type, /)\n--\n\n"
"Parse the packet at the start of a buffer, as `uwsgibridge.protocol.packet.parse_packet`.\n\n"
"None where it is not whole, repeats a var, or is to be refused.");

static PyObject *
parse_packet(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyType_Check(args[3])
        || !PyType_IsSubtype((PyTypeObject *)args[3], &PyTuple_Type))
    {
        PyErr_SetString(PyExc_TypeError, "parse_packet takes a buffer, two limits and a class of tuples");
        return NULL;
    }
    Py_ssize_t max_vars_bytes = PyLong_AsSsize_t(args[1]);
    Py_ssize_t max_vars = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Py_ssize_t end;
    known_vars known;
    PyObject *vars = find_vars(state_of(module), view.buf, view.len, max_vars_bytes, max_vars, &known, &end);
    PyObject *packet = NULL;
    if (vars != NULL) {
        packet = make_packet((PyTypeObject *)args[3], *(const unsigned char *)view.buf, vars, end);
        Py_DECREF(vars);
    }
    else if (!PyErr_Occurred()) {
        packet = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&view);
    return packet;
}
