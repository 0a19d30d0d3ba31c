/* A connection's packet: how it is received, and how it is taken out of the kernel at the end. */

/* What a request is received with. */
typedef struct {
    int flags;
    Py_ssize_t max_vars_bytes;
    Py_ssize_t max_vars;
    long long max_body_bytes;
    PyTypeObject *request_type;
} request_limits;

/* Take the arguments behind the first two of `receive_request`; false with an error. */
static int
as_limits(PyObject *const *args, request_limits *limits)
{
    if (!as_int(args[0], &limits->flags) || !as_size(args[1], &limits->max_vars_bytes)
        || !as_size(args[2], &limits->max_vars))
    {
        return 0;
    }
    limits->max_body_bytes = PyLong_AsLongLong(args[3]);
    if (limits->max_body_bytes == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (!PyType_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "a request is made of a class");
        return 0;
    }
    limits->request_type = (PyTypeObject *)args[4];
    return 1;
}

/* Make the tuple that `receive_request` gives; steals the request. NULL with an error. */
static PyObject *
make_received(PyObject *request, Py_ssize_t have, const char *body, Py_ssize_t body_size)
{
    PyObject *count = PyLong_FromSsize_t(have);
    PyObject *seen = PyBytes_FromStringAndSize(body, body_size);
    PyObject *result = count != NULL && seen != NULL ? PyTuple_Pack(3, request, count, seen) : NULL;
    Py_DECREF(request);
    Py_XDECREF(count);
    Py_XDECREF(seen);
    return result;
}

/* Make a request of what was received, if it is whole, with its body: a tuple of the request, the number of
   bytes that were received, and the body. NULL where it is not mine, or with an error. */
static PyObject *
whole_request(module_state *state, const unsigned char *data, Py_ssize_t have, const request_limits *limits)
{
    Py_ssize_t end;
    if (!have || data[0] != MODIFIER_REQUEST) {
        return NULL;
    }
    known_vars known;
    PyObject *vars = find_vars(state, data, have, limits->max_vars_bytes, limits->max_vars, &known, &end);
    if (vars == NULL) {
        return NULL;
    }
    long long length = settle(state, vars, &known, limits->max_body_bytes);
    PyObject *result = NULL;
    if (length >= 0 && length <= have - end) {
        PyObject *request = make_request(state, limits->request_type, vars, length);
        if (request != NULL) {
            result = make_received(request, have, (const char *)data + end, (Py_ssize_t)length);
        }
    }
    Py_DECREF(vars);
    return result;
}

PyDoc_STRVAR(receive_request_doc,
"receive_request(connection, scratch, flags, max_vars_bytes, max_vars, max_body_bytes, request_type, /)\n--\n\n"
"Receive into a buffer what has arrived on a connection that `accept` has given.\n\n"
"Gives the number of bytes; or, where they are a whole plain request with its body, a tuple of the request, that\n"
"number and the body. None, with nothing received, where the connection is of another type.");

static PyObject *
receive_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = state_of(module);
    request_limits limits;
    if (!check_count("receive_request", count, 7) || !as_limits(args + 2, &limits)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->descriptor_type)) {
        Py_RETURN_NONE;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    PyObject *result;
    ssize_t received = receive(((descriptor *)args[0])->fd, view.buf, view.len, limits.flags);
    if (received < 0) {
        result = raise_errno();
    }
    else {
        result = whole_request(state, view.buf, received, &limits);
        if (result == NULL && !PyErr_Occurred()) {
            result = PyLong_FromSsize_t(received);
        }
    }
    PyBuffer_Release(&view);
    return result;
}

/* Take bytes out of the kernel that were peeked at, and drop them. -1 with errno. */
static int
drop_peeked(int fd, Py_ssize_t count)
{
    char unread[16384];
    while (count > 0) {
        size_t piece = (size_t)count < sizeof(unread) ? (size_t)count : sizeof(unread);
        ssize_t taken = receive(fd, unread, piece, 0);
        if (taken <= 0) {
            /* The thread that lost the connection may have read them. */
            return taken == 0 || errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        }
        count -= taken;
    }
    return 0;
}

PyDoc_STRVAR(take_and_close_doc,
"take_and_close(connection, count, /)\n--\n\n"
"Take bytes out of the kernel that were peeked at, and close the connection.\n\n"
"Gives True; False, with nothing done, where the connection is of another type than that of `accept`.");

static PyObject *
take_and_close(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t bytes;
    if (!check_count("take_and_close", count, 2) || !as_size(args[1], &bytes)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state_of(module)->descriptor_type)) {
        Py_RETURN_FALSE;
    }
    descriptor *connection = (descriptor *)args[0];
    if (drop_peeked(connection->fd, bytes) < 0) {
        return raise_errno();
    }
    close_once(connection);
    Py_RETURN_TRUE;
}
