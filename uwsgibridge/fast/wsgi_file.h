/* A file as the answer of WSGI, as `hosts.wsgi.answer` sends it: the head with the first piece, then sendfile. */

/* So much is sent by one call at the most, as in `hosts.wsgi.answer`: what a call takes has to be bounded. */
#define MAX_SENDFILE_BYTES 262144

/* What "Content-Length" takes at the most, with its number and the end of its line. */
#define MAX_LENGTH_LINE 40

/* The file of a wrapper, as `hosts.files.OpenFile`. */
typedef struct {
    int fd;
    off_t offset;
    Py_ssize_t size;
    PyObject *first_piece;
    PyObject *found;        /* what `hosts.files.regular_file` has made of it, or NULL */
} open_file;

/* Take what Python has found apart. 0 where it is None, or with an error. */
static int
as_open_file(PyObject *found, open_file *file)
{
    Py_ssize_t offset;
    if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 4 || !as_int(PyTuple_GET_ITEM(found, 0), &file->fd)
        || !as_size(PyTuple_GET_ITEM(found, 1), &offset) || !as_size(PyTuple_GET_ITEM(found, 2), &file->size))
    {
        return 0;
    }
    file->offset = offset;
    file->first_piece = Py_NewRef(PyTuple_GET_ITEM(found, 3));
    return PyBytes_CheckExact(file->first_piece) && PyBytes_GET_SIZE(file->first_piece) <= file->size;
}

/* Find the file of a wrapper here. 1, or 0 where Python is to look, or -1 with an error. */
static int
begin_reader(const wsgi_thread *self, PyObject *wrapper, open_file *file)
{
    Py_ssize_t offset;
    PyObject *reader = PyObject_GetAttr(wrapper, self->state->texts[TEXT_FILELIKE]);
    if (reader == NULL) {
        return -1;
    }
    int is_plain = place_of_reader(self->state, reader, (PyTypeObject *)self->parts[PART_READER_TYPE],
                                   (PyTypeObject *)self->parts[PART_FILE_TYPE], &file->fd, &offset);
    if (is_plain) {
        char place[MAX_BEGINNING_BYTES];
        file_beginning begun;
        Py_BEGIN_ALLOW_THREADS
        is_plain = read_beginning(file->fd, offset, (size_t)self->whole_file_bytes, (size_t)self->first_piece_bytes, place, &begun);
        Py_END_ALLOW_THREADS
        if (is_plain) {
            file->offset = offset;
            file->size = (Py_ssize_t)begun.available;
            file->first_piece = PyBytes_FromStringAndSize(place, begun.read);
            is_plain = file->first_piece == NULL ? -1 : 1;
        }
    }
    Py_DECREF(reader);
    return is_plain;
}

/* Find the file of a wrapper. 1, or 0 where there is none, or -1 with an error. */
static int
find_file(const wsgi_thread *self, wsgi_exchange *exchange, PyObject *wrapper, open_file *file)
{
    int is_plain = begin_reader(self, wrapper, file);
    if (is_plain) {
        return is_plain;
    }
    file->found = PyObject_CallMethod((PyObject *)exchange, "find_file", "O", wrapper);
    if (file->found == NULL) {
        return -1;
    }
    int is_found = as_open_file(file->found, file);
    return PyErr_Occurred() ? -1 : is_found;
}

/* Have Python go on with a file, of which so much was sent behind its first piece; the result is that of `go_on_in_python`. */
static int
go_on_with_file(const wsgi_thread *self, wsgi_exchange *exchange, const called *call, open_file *file, Py_ssize_t sent)
{
    if (file->found == NULL) {
        file->found = PyObject_CallFunction(self->parts[PART_OPEN_FILE_TYPE], "innO", file->fd, (Py_ssize_t)file->offset, file->size,
                                            file->first_piece);
    }
    return file->found == NULL ? -1 : go_on_in_python(exchange, call, file->found, sent, NULL);
}

/* Whether a file may be sent here, as all of the body. */
static int
is_plain_file(const wsgi_thread *self, const wsgi_exchange *exchange, const called *call, const open_file *file)
{
    if (!is_mine_to_answer(self, exchange, call)) {
        return 0;
    }
    if (exchange->promised < 0) {
        /* The head takes a length in addition. */
        return PyBytes_GET_SIZE(exchange->head) + MAX_LENGTH_LINE <= self->frontend_buffer_bytes;
    }
    return exchange->promised == file->size;
}

/* Give an answer without a Content-Length that of its file, as `Response.allow` does; false without memory for it. Within
   the guard of the exchange. */
static int
promise_size(wsgi_exchange *exchange, Py_ssize_t size)
{
    if (exchange->promised < 0) {
        PyObject *head = PyBytes_FromFormat("%s\r\nContent-Length: %zd", PyBytes_AS_STRING(exchange->head), size);
        if (head == NULL) {
            return 0;
        }
        Py_SETREF(exchange->head, head);
        exchange->promised = size;
    }
    return 1;
}

/* Send the head with the first piece of a file. 1, or 0 where that is not mine or was not sent completely, or -1 with an
   error; in `*sent`, how many bytes of both went out. */
static int
send_beginning(const wsgi_thread *self, wsgi_exchange *exchange, const called *call, const open_file *file,
               Py_ssize_t *sent)
{
    Py_ssize_t total = 0;
    *sent = 0;
    HOLD(&exchange->guard);
    int done = is_plain_file(self, exchange, call, file);
    if (done && !promise_size(exchange, file->size)) {
        done = -1;
    }
    if (done > 0) {
        *sent = send_piece(self, exchange, file->first_piece, 0, &total);
        done = *sent == total;
    }
    if (done > 0) {
        /* Before another thread may ask for the answer. */
        exchange->sent = Py_NewRef(file->first_piece);
    }
    LET_GO(&exchange->guard);
    return done;
}

/* Send what follows the first piece, as far as it fits; gives how many bytes did. The interpreter's lock is not held
   meanwhile, since the kernel may wait for a disk: another thread may take the connection away. Its descriptor is then
   that of a socket without a peer. */
static Py_ssize_t
send_behind_piece(const wsgi_exchange *exchange, const open_file *file)
{
    int socket = ((descriptor *)((connection_fields *)exchange->connection)->socket)->fd;
    Py_ssize_t sent_before = PyBytes_GET_SIZE(file->first_piece);
    Py_ssize_t left = file->size - sent_before;
    off_t place = file->offset + sent_before;
    ssize_t sent = 0;
    if (left) {
        Py_BEGIN_ALLOW_THREADS
        sent = sendfile(socket, file->fd, &place, left < MAX_SENDFILE_BYTES ? left : MAX_SENDFILE_BYTES);
        Py_END_ALLOW_THREADS
    }
    /* Python tries again, and finds out why nothing went out. */
    return sent < 0 ? 0 : sent;
}

/* Send a file. 1, or 0 where Python has gone on, or -1 with an error. */
static int
send_file(wsgi_thread *self, wsgi_exchange *exchange, const called *call, open_file *file)
{
    Py_ssize_t sent;
    int done = send_beginning(self, exchange, call, file, &sent);
    if (done < 0) {
        return -1;
    }
    if (!done) {
        return sent ? go_on_with_file(self, exchange, call, file, sent) : go_on_in_python(exchange, call, NULL, 0, NULL);
    }
    sent = send_behind_piece(exchange, file);
    if (sent < file->size - PyBytes_GET_SIZE(file->first_piece) || !may_end(self, exchange, call, file->size)) {
        return go_on_with_file(self, exchange, call, file, sent);
    }
    return end_sent(self, exchange, call);
}

/* Answer with the file of a wrapper. 1, or 0 where Python has done it, or -1 with an error. */
static int
answer_file(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    open_file file = {.first_piece = NULL, .found = NULL};
    if (!is_mine_to_answer(self, exchange, call)) {
        return go_on_in_python(exchange, call, NULL, 0, NULL);
    }
    int done = find_file(self, exchange, call->iterable, &file);
    if (done > 0) {
        done = send_file(self, exchange, call, &file);
    }
    else if (!done) {
        done = go_on_in_python(exchange, call, NULL, 0, NULL);
    }
    else {
        PyObject *error = take_raised();
        done = go_on_in_python(exchange, call, NULL, 0, error);
        Py_DECREF(error);
    }
    Py_XDECREF(file.first_piece);
    Py_XDECREF(file.found);
    return done;
}
