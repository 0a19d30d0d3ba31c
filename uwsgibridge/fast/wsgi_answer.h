/* The answer of a WSGI exchange that is one piece: sending it, and the end of its exchange. */

/* Whether the answer may be sent here: nothing has happened that Python has to look at. */
static int
is_mine_to_answer(const wsgi_thread *self, const wsgi_exchange *exchange, const called *call)
{
    return call->forks == forks && is_undisturbed(exchange) && exchange->response == NULL && exchange->head != NULL
        && PyBytes_GET_SIZE(exchange->head) <= self->frontend_buffer_bytes
        /* Where a part of the body was not read, the close has to wait for it. */
        && !((connection_fields *)exchange->connection)->body_unseen;
}

/* Whether a piece may be sent here, with the head, as all of the body. Within the guard of the exchange. */
static int
is_plain_answer(const wsgi_thread *self, const wsgi_exchange *exchange, const called *call, PyObject *piece)
{
    if (!is_mine_to_answer(self, exchange, call) || !PyBytes_CheckExact(piece)) {
        return 0;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(piece);
    return exchange->promised == size ? size <= MAX_COPY_BYTES || self->write_milliseconds
                                      : exchange->promised < 0 && size <= MAX_COPY_BYTES;
}

/* Send the head and what fits of the body. Gives how many bytes of both went out, and in `*total` how many there are.
   `is_last` says whether the piece is the whole body. */
static Py_ssize_t
send_piece(const wsgi_thread *self, wsgi_exchange *exchange, PyObject *piece, int is_last, Py_ssize_t *total)
{
    char end[64];
    Py_ssize_t size = PyBytes_GET_SIZE(piece);
    int end_size = exchange->promised >= 0
        ? snprintf(end, sizeof(end), "\r\n\r\n")
        : snprintf(end, sizeof(end), "\r\nContent-Length: %zd\r\n\r\n", size);
    struct iovec parts[] = {
        {PyBytes_AS_STRING(exchange->head), PyBytes_GET_SIZE(exchange->head)},
        {end, end_size},
        {PyBytes_AS_STRING(piece), size < MAX_COPY_BYTES ? size : MAX_COPY_BYTES},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = size ? 3 : 2};
    connection_fields *connection = (connection_fields *)exchange->connection;
    int fd = ((descriptor *)connection->socket)->fd;
    *total = PyBytes_GET_SIZE(exchange->head) + end_size + size;
    /* The access log has to tell that the client has left. By TCP, a first send after that may still succeed; by a unix socket,
       the send fails. */
    if (self->logs_access && !connection->keeps_input_in_kernel && has_left(connection, fd)) {
        return 0;
    }
    recorder *counts = (recorder *)self->parts[PART_RECORDER];
    int is_marked = is_last && size <= MAX_COPY_BYTES;
    if (is_marked) {
        (void)take_request(connection, fd); /* where it fails, the peer is gone, and the send tells it */
    }
    exchange->answer_began = monotonic_now();
    if (is_marked) {
        mark_answer(counts, exchange->method_row, outcome_of_whole(exchange->status));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (is_marked && sent != *total) {
        unmark_answer(counts);
    }
    /* Python sends again, and finds out why nothing went out. */
    return sent < 0 ? 0 : sent;
}

/* Close the connection of a complete answer. Within the guard of the exchange. */
static void
end_exchange(wsgi_thread *self, wsgi_exchange *exchange)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    descriptor *socket = (descriptor *)connection->socket;
    (void)take_request(connection, socket->fd); /* where it fails, the peer is gone */
    close_once(socket);
    Py_SETREF(exchange->life, Py_NewRef(self->parts[PART_ENDED]));
}

/* Free the place of a request, as the host's `_release`; -1 with an error. */
static int
free_place(wsgi_thread *self, connection_fields *connection)
{
    const place_tables tables = {
        self->parts[PART_FREE_SLOTS], self->parts[PART_IN_FLIGHT], self->parts[PART_ADMISSION],
    };
    int done = give_place_back(self->state, &tables, connection);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    PyObject *released = PyObject_CallMethod(self->parts[PART_CONTEXT], "release", "O", connection);
    Py_XDECREF(released);
    return released == NULL ? -1 : 0;
}

/* Whether a thread may have begun a text in wsgi.errors without ending it; -1 with an error. */
static int
has_unfinished_text(const wsgi_thread *self)
{
    PyObject *flag = PyObject_GetAttr(self->parts[PART_ERRORS], self->state->texts[TEXT_HAS_UNFINISHED]);
    Py_XDECREF(flag);
    return flag == NULL ? -1 : flag != Py_False;
}

/* Write the line of an answer that was sent here; -1 with an error. */
static int
log_sent(const wsgi_thread *self, wsgi_exchange *exchange, const connection_fields *connection)
{
    PyObject *writer = self->parts[PART_LOG_SENT];
    if (writer != Py_None) {
        return write_sent(self->state, writer, exchange->request, exchange->status, exchange->sent_bytes,
                          connection->accepted_at, exchange->started_at);
    }
    PyObject *done = PyObject_CallMethod((PyObject *)exchange, "log_sent", "ln", exchange->status, exchange->sent_bytes);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* End the exchange of an answer that was sent here. 1, or 0 where Python has done it, or -1 with an error. */
static int
end_call(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    connection_fields *connection = (connection_fields *)exchange->connection;
    int has_text = has_unfinished_text(self);
    if (has_text < 0) {
        return -1;
    }
    if (has_text || call->forks != forks || !is_undisturbed(exchange) || connection->input_stalled) {
        return call_python((PyObject *)exchange, "end_call");
    }
    /* First, since a full host wakes the listener by code of Python, and nobody may give the request up then. */
    int is_mine = take_out(self->parts[PART_RUNNING], (PyObject *)exchange);
    if (is_mine <= 0) {
        return is_mine < 0 ? -1 : call_python((PyObject *)exchange, "end_call");
    }
    Py_SETREF(exchange->life, Py_NewRef(self->parts[PART_OVER]));
    /* Before its place is free: a drain waits for no request without one. */
    if (self->logs_access) {
        if (log_sent(self, exchange, connection) < 0) {
            return -1;
        }
    }
    return free_place(self, connection) < 0 ? -1 : 1;
}

/* Record an answer whose whole body was sent, of so many bytes. Within the guard of the exchange. */
static void
record_sent(wsgi_thread *self, wsgi_exchange *exchange, Py_ssize_t body_bytes)
{
    record_whole_answer((recorder *)self->parts[PART_RECORDER], self->state, (connection_fields *)exchange->connection,
                        exchange->request, exchange->method_row, outcome_of_whole(exchange->status), exchange->started_at,
                        exchange->answer_began, body_bytes);
}

/* Close the connection of an answer whose whole body was sent, of so many bytes. Within the guard of the exchange. */
static void
close_sent(wsgi_thread *self, wsgi_exchange *exchange, Py_ssize_t body_bytes)
{
    record_sent(self, exchange, body_bytes);
    exchange->sent_bytes = body_bytes;
    exchange->is_sent_last = 1;
    end_exchange(self, exchange);
}

/* Close the connection of an answer whose whole body was sent, of so many bytes, as long as nothing has happened that Python
   has to look at; else false, with nothing done. */
static int
may_end(wsgi_thread *self, wsgi_exchange *exchange, const called *call, Py_ssize_t body_bytes)
{
    HOLD(&exchange->guard);
    int may = call->forks == forks && is_undisturbed(exchange) && exchange->response == NULL;
    if (may) {
        close_sent(self, exchange, body_bytes);
    }
    LET_GO(&exchange->guard);
    return may;
}

/* How far an answer has come that was begun with its whole body. */
typedef enum {
    NOT_BEGUN,  /* or not as far as the body: Python goes on from there */
    BEGUN,
    SENT,
} progress;

/* Send the head with the whole body, as far as it fits. In `*sent`, how many bytes of the body went out; where it is
   `NOT_BEGUN`, of the head with it. */
static progress
begin_answer(wsgi_thread *self, wsgi_exchange *exchange, const called *call, PyObject *piece, int needs_promise,
             Py_ssize_t *sent)
{
    Py_ssize_t total = 0;
    progress far = NOT_BEGUN;
    *sent = 0;
    HOLD(&exchange->guard);
    if (is_plain_answer(self, exchange, call, piece) && (!needs_promise || exchange->promised > 0)) {
        *sent = send_piece(self, exchange, piece, 1, &total);
        Py_ssize_t before_body = total - PyBytes_GET_SIZE(piece);
        if (*sent == total) {
            far = SENT;
            *sent -= before_body;
        }
        else if (*sent > before_body && exchange->promised >= 0 && self->write_milliseconds) {
            far = BEGUN;
            *sent -= before_body;
        }
        if (far != NOT_BEGUN) {
            /* Before another thread may ask for the answer. */
            exchange->sent = Py_NewRef(piece);
        }
    }
    LET_GO(&exchange->guard);
    return far;
}

/* Send the rest of a body of which so many bytes were sent. False where it was not sent completely: `*sent` is what `_send_rest`
   gets then. The interpreter's lock is not held meanwhile. Another thread may take the connection away: its descriptor is then
   that of a socket without a peer. */
static int
send_rest_of_body(const wsgi_thread *self, const wsgi_exchange *exchange, PyObject *piece, Py_ssize_t *sent)
{
    const connection_fields *connection = (const connection_fields *)exchange->connection;
    int fd = ((descriptor *)connection->socket)->fd;
    int is_unix = connection->keeps_input_in_kernel;
    const char *data = PyBytes_AS_STRING(piece);
    Py_ssize_t size = PyBytes_GET_SIZE(piece);
    size_t more;
    sending_end end;
    Py_BEGIN_ALLOW_THREADS
    if (is_unix) {
        enlarge_send_buffer(fd);
    }
    end = send_all(fd, data + *sent, size - *sent, self->write_milliseconds, &more);
    Py_END_ALLOW_THREADS
    *sent += more;
    if (end == SENT_TOO_SLOWLY) {
        *sent = ~*sent;
    }
    return end == SENT_ALL;
}

/* Answer with the only item of a list or a tuple. 1, or 0 where Python has done it, or -1 with an error. */
static int
answer_whole(wsgi_thread *self, wsgi_exchange *exchange, const called *call, PyObject *piece)
{
    Py_ssize_t sent;
    progress far = begin_answer(self, exchange, call, piece, 0, &sent);
    if (far == NOT_BEGUN) {
        return go_on_in_python(exchange, call, sent ? piece : NULL, sent, NULL);
    }
    if ((far == BEGUN && !send_rest_of_body(self, exchange, piece, &sent))
        || !may_end(self, exchange, call, PyBytes_GET_SIZE(piece)))
    {
        return go_on_in_python(exchange, call, piece, sent, NULL);
    }
    return end_call(self, exchange, call);
}

/* Call the `close` of an iterable, if it has one. 1, or 0 where Python has handled what it raised, or -1. */
static int
close_iterable(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    PyObject *close = PyObject_GetAttr(call->iterable, self->state->texts[TEXT_CLOSE]);
    if (close == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return 1;
    }
    PyObject *done = close == NULL ? NULL : PyObject_CallNoArgs(close);
    Py_XDECREF(close);
    Py_XDECREF(done);
    return done == NULL ? fail_in_python(exchange) : 1;
}

/* End an exchange whose connection is closed. 1, or 0 where Python has done it, or -1 with an error. */
static int
end_sent(wsgi_thread *self, wsgi_exchange *exchange, const called *call)
{
    int done = close_iterable(self, exchange, call);
    return done > 0 ? end_call(self, exchange, call) : done;
}

/* Put an empty tuple in the place of an iterator that has ended, so that it is not asked again; false with an error. */
static int
has_ended(called *call)
{
    Py_SETREF(call->iterator, PyTuple_New(0));
    return call->iterator != NULL;
}

/* Go on behind the first item, which was the whole body. 1, or 0 where Python has gone on, or -1 with an error. */
static int
end_iteration(wsgi_thread *self, wsgi_exchange *exchange, called *call)
{
    PyObject *next = PyIter_Next(call->iterator);
    if (next != NULL) {
        int done = go_on_in_python(exchange, call, next, 0, NULL);
        Py_DECREF(next);
        return done;
    }
    if (PyErr_Occurred()) {
        PyObject *error = take_raised();
        int done = go_on_in_python(exchange, call, NULL, 0, error);
        Py_DECREF(error);
        return done;
    }
    if (!may_end(self, exchange, call, PyBytes_GET_SIZE(exchange->sent))) {
        return has_ended(call) ? go_on_in_python(exchange, call, NULL, 0, NULL) : -1;
    }
    return end_sent(self, exchange, call);
}

/* Answer with the items of an iterable. 1, or 0 where Python has done it, or -1 with an error. */
static int
answer_items(wsgi_thread *self, wsgi_exchange *exchange, called *call)
{
    call->iterator = PyObject_GetIter(call->iterable);
    PyObject *piece = call->iterator == NULL ? NULL : PyIter_Next(call->iterator);
    int done;
    if (piece == NULL) {
        PyObject *error = PyErr_Occurred() ? take_raised() : NULL;
        if (error == NULL && !has_ended(call)) {
            return -1;
        }
        done = go_on_in_python(exchange, call, NULL, 0, error);
        Py_XDECREF(error);
        return done;
    }
    Py_ssize_t sent;
    progress far = begin_answer(self, exchange, call, piece, 1, &sent);
    if (far == NOT_BEGUN || (far == BEGUN && !send_rest_of_body(self, exchange, piece, &sent))) {
        done = go_on_in_python(exchange, call, piece, sent, NULL);
        Py_DECREF(piece);
        return done;
    }
    Py_DECREF(piece);
    return end_iteration(self, exchange, call);
}

/* Whether an iterable is iterated over here: a part of the rest, such as a text, is an error. */
static int
is_iterated_here(const wsgi_thread *self, const wsgi_exchange *exchange, PyObject *iterable)
{
    return exchange->promised > 0 && exchange->response == NULL && iterable != Py_None
        && !PyUnicode_Check(iterable) && !PyBytes_Check(iterable) && !PyList_Check(iterable)
        && !PyTuple_Check(iterable)
        && !Py_IS_TYPE(iterable, (PyTypeObject *)self->parts[PART_FILE_WRAPPER]);
}
