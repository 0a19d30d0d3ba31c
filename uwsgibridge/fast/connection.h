/* Connections: what the standard library's socket does for one, without ever releasing the interpreter's lock
   for a call that does not block. */

/* Up to here, the kernel copies a buffer in less time (some 50 us) than a hand-over of the interpreter's lock may take:
   beside a thread that computes, that is the interpreter's switch interval. */
#define MAX_COPY_BYTES 262144

/* An accepted socket: what `socket.SocketType` offers of it, and no more. Owns its descriptor. */
typedef struct {
    PyObject_HEAD
    int fd;  /* -1 once it is closed */
    int family;
} descriptor;

/* Raise the OSError of errno, in the subclass that fits. */
static PyObject *
raise_errno(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Receive into memory that the caller owns; errno tells where -1 is given. */
static ssize_t
receive(int fd, void *place, size_t size, int flags)
{
    ssize_t received;
    do {
        received = recv(fd, place, size, flags | MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received;
}

/* Send bytes that the caller holds; errno tells where -1 is given. */
static ssize_t
send_some(int fd, const void *data, size_t size, int flags)
{
    ssize_t sent;
    do {
        sent = send(fd, data, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

PyDoc_STRVAR(recv_into_doc,
"recv_into(buffer, nbytes, flags, /)\n--\n\n"
"Receive what has arrived into a buffer; 0 bytes are as many as it has. Never waits.");

static PyObject *
descriptor_recv_into(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    Py_ssize_t size;
    int flags;
    if (!check_count("recv_into", count, 3) || !as_size(args[1], &size) || !as_int(args[2], &flags)
        || PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0)
    {
        return NULL;
    }
    if (size < 0 || size > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "the buffer is smaller than that");
        return NULL;
    }
    ssize_t received = receive(self->fd, view.buf, size ? size : view.len, flags);
    PyObject *result = received < 0 ? raise_errno() : PyLong_FromSsize_t(received);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(recv_doc,
"recv(nbytes, flags, /)\n--\n\n"
"Receive what has arrived, so many bytes at the most. Never waits.");

static PyObject *
descriptor_recv(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;
    int flags;
    if (!check_count("recv", count, 2) || !as_size(args[0], &size) || !as_int(args[1], &flags)) {
        return NULL;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "a number of bytes is not negative");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    ssize_t received = receive(self->fd, PyBytes_AS_STRING(data), size, flags);
    if (received < 0) {
        Py_DECREF(data);
        return raise_errno();
    }
    if (received != size) {
        _PyBytes_Resize(&data, received);  /* gives NULL with an error */
    }
    return data;
}

PyDoc_STRVAR(recv_keeping_last_doc,
"recv_keeping_last(nbytes, /)\n--\n\n"
"Receive so many bytes at the most. Where all of them are there, the last one stays in the kernel as well.\n"
"Never waits.");

static PyObject *
descriptor_recv_keeping_last(descriptor *self, PyObject *argument)
{
    Py_ssize_t size;
    if (!as_size(argument, &size)) {
        return NULL;
    }
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError, "there is no last byte");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    char *place = PyBytes_AS_STRING(data);
    ssize_t taken = size == 1 ? 0 : receive(self->fd, place, size - 1, 0);
    if (taken == size - 1) {
        ssize_t seen = receive(self->fd, place + taken, 1, MSG_PEEK);
        if (seen > 0) {
            return data;
        }
        if (size == 1 && seen < 0) {
            taken = -1;
        }
        /* Else the next call tells why there is no last byte. */
    }
    if (taken < 0) {
        Py_DECREF(data);
        return raise_errno();
    }
    _PyBytes_Resize(&data, taken);  /* gives NULL with an error */
    return data;
}

PyDoc_STRVAR(send_doc,
"send(data, flags, /)\n--\n\n"
"Send what fits; the number of bytes that did. Never waits.");

static PyObject *
descriptor_send(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    int flags;
    if (!check_count("send", count, 2) || !as_int(args[1], &flags)
        || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
    {
        return NULL;
    }
    ssize_t sent;
    if (view.len <= MAX_COPY_BYTES) {
        sent = send_some(self->fd, view.buf, view.len, flags);
    }
    else {
        int fd = self->fd;
        Py_BEGIN_ALLOW_THREADS
        sent = send_some(fd, view.buf, view.len, flags);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = sent < 0 ? raise_errno() : PyLong_FromSsize_t(sent);
    PyBuffer_Release(&view);
    return result;
}

/* Send two buffers, of which the caller holds both; errno tells where -1 is given. */
static ssize_t
send_two(int fd, const Py_buffer *first, const Py_buffer *second)
{
    struct iovec parts[2] = {{first->buf, (size_t)first->len}, {second->buf, (size_t)second->len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

PyDoc_STRVAR(send_pair_doc,
"send_pair(first, second, /)\n--\n\n"
"Send what fits of two buffers, one after the other, without joining them; the number of bytes that did. Never waits.");

static PyObject *
descriptor_send_pair(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer first, second;
    if (!check_count("send_pair", count, 2) || PyObject_GetBuffer(args[0], &first, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(args[1], &second, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&first);
        return NULL;
    }
    ssize_t sent;
    if (second.len <= MAX_COPY_BYTES && first.len <= MAX_COPY_BYTES - second.len) {
        sent = send_two(self->fd, &first, &second);
    }
    else {
        int fd = self->fd;
        Py_BEGIN_ALLOW_THREADS
        sent = send_two(fd, &first, &second);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = sent < 0 ? raise_errno() : PyLong_FromSsize_t(sent);
    PyBuffer_Release(&first);
    PyBuffer_Release(&second);
    return result;
}

PyDoc_STRVAR(fileno_doc,
"fileno()\n--\n\n"
"The number of the descriptor; -1 once it is closed.");

static PyObject *
descriptor_fileno(descriptor *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->fd);
}

/* Close the descriptor, once. The number is free for others from then on, whatever close(2) says. */
static void
close_once(descriptor *self)
{
    int fd = self->fd;
    self->fd = -1;
    if (fd >= 0) {
        close(fd);
    }
}

PyDoc_STRVAR(close_doc,
"close()\n--\n\n"
"Close the descriptor; does nothing where that is done.");

static PyObject *
descriptor_close(descriptor *self, PyObject *Py_UNUSED(ignored))
{
    close_once(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(shutdown_doc,
"shutdown(how, /)\n--\n\n"
"Shut one or both directions down, as shutdown(2).");

static PyObject *
descriptor_shutdown(descriptor *self, PyObject *how)
{
    int direction;
    if (!as_int(how, &direction)) {
        return NULL;
    }
    if (shutdown(self->fd, direction) < 0) {
        return raise_errno();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(setsockopt_doc,
"setsockopt(level, optname, value, /)\n--\n\n"
"Set an option whose value is bytes, as setsockopt(2).");

static PyObject *
descriptor_setsockopt(descriptor *self, PyObject *args)
{
    int level;
    int name;
    Py_buffer value;
    if (!PyArg_ParseTuple(args, "iiy*:setsockopt", &level, &name, &value)) {
        return NULL;
    }
    int failed = setsockopt(self->fd, level, name, value.buf, (socklen_t)value.len);
    PyObject *result = failed ? raise_errno() : Py_NewRef(Py_None);
    PyBuffer_Release(&value);
    return result;
}

static PyObject *
descriptor_family(descriptor *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->family);
}

static PyObject *
descriptor_kind(descriptor *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(SOCK_STREAM);
}

/* Warn of a connection that nobody has closed, as the socket module does, and close it. An exception that is
   on its way stays so. */
static void
descriptor_finalize(descriptor *self)
{
    if (self->fd < 0) {
        return;
    }
    raised_error raised = set_error_aside();
    if (PyErr_ResourceWarning((PyObject *)self, 1, "unclosed connection, descriptor %d", self->fd) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    close_once(self);
    bring_error_back(raised);
}

static void
descriptor_dealloc(descriptor *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return; /* somebody who was warned keeps it */
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef descriptor_methods[] = {
    {"recv_into", (PyCFunction)(void (*)(void))descriptor_recv_into, METH_FASTCALL, recv_into_doc},
    {"recv", (PyCFunction)(void (*)(void))descriptor_recv, METH_FASTCALL, recv_doc},
    {"recv_keeping_last", (PyCFunction)descriptor_recv_keeping_last, METH_O, recv_keeping_last_doc},
    {"send", (PyCFunction)(void (*)(void))descriptor_send, METH_FASTCALL, send_doc},
    {"send_pair", (PyCFunction)(void (*)(void))descriptor_send_pair, METH_FASTCALL, send_pair_doc},
    {"fileno", (PyCFunction)descriptor_fileno, METH_NOARGS, fileno_doc},
    {"close", (PyCFunction)descriptor_close, METH_NOARGS, close_doc},
    {"shutdown", (PyCFunction)descriptor_shutdown, METH_O, shutdown_doc},
    {"setsockopt", (PyCFunction)descriptor_setsockopt, METH_VARARGS, setsockopt_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef descriptor_attributes[] = {
    {"family", (getter)descriptor_family, NULL, "The address family.", NULL},
    {"type", (getter)descriptor_kind, NULL, "SOCK_STREAM.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(descriptor_doc,
"A connection that `accept` has given: what `socket.SocketType` does for one, and never waits.");

static PyType_Slot descriptor_slots[] = {
    {Py_tp_doc, (void *)descriptor_doc},
    {Py_tp_dealloc, descriptor_dealloc},
    {Py_tp_finalize, descriptor_finalize},
    {Py_tp_methods, descriptor_methods},
    {Py_tp_getset, descriptor_attributes},
    {0, NULL},
};

static PyType_Spec descriptor_spec = {
    .name = "uwsgibridge.fast._fast.Descriptor",
    .basicsize = sizeof(descriptor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = descriptor_slots,
};

/* Accept a connection, which never blocks: sendfile(2) has no flag that says so for one call. -1 with errno. */
static int
accept_nonblocking(int listening)
{
    return accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

PyDoc_STRVAR(accept_doc,
"accept(listening, family, /)\n--\n\n"
"Accept a connection on a descriptor of a listening socket that is non-blocking. The connection is, too.\n\n"
"Raises BlockingIOError where none waits.");

static PyObject *
accept_connection(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int listening;
    int family;
    if (!check_count("accept", count, 2) || !as_int(args[0], &listening) || !as_int(args[1], &family)) {
        return NULL;
    }
    descriptor *accepted = PyObject_New(descriptor, state_of(module)->descriptor_type);
    if (accepted == NULL) {
        return NULL;
    }
    accepted->family = family;
    accepted->fd = accept_nonblocking(listening);
    if (accepted->fd < 0) {
        raise_errno();
        Py_DECREF(accepted);
        return NULL;
    }
    return (PyObject *)accepted;
}
