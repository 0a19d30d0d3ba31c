/* Accepting: connections of one listening socket, up to the host that gets their requests, as
   `worker.acceptor` and `worker.listener` have it. */

/* The first byte of a slot that awaits a packet, and of a free one: as in `link.flights`. */
#define SLOT_AWAITED 254
#define SLOT_FREE 255

/* Where the input stays in the kernel, so much of it is looked at first. To look is to copy: of a large upload, only
   the packet is wanted here, and the body is copied once, when the application reads it. */
#define FIRST_LOOK_BYTES 8192

/* How long the loop stands still for connections that may come in a moment. Its turn costs more than two requests, and
   where requests come one after the other, each would have a turn of its own. */
#define MOMENT_NANOSECONDS 300000

typedef struct {
    PyObject_HEAD
    PyTypeObject *connection_type;  /* derived from `ConnectionFields` */
    PyObject *flights;
    cells arrived;                  /* one, which counts requests */
    PyObject *host;                 /* that gets each request, or None: ask `select` */
    PyObject *select;
    PyObject *take;                 /* what does all that is not plain */
    PyObject *file_prefixes;        /* a tuple of texts; NULL where no files are served */
    PyObject *admits;               /* tells of a descriptor whether its peer may connect; NULL where all may */
    request_limits limits;
    long max_requests;              /* 0: never */
    int family;
    int keeps_input_in_kernel;
    int failed;                     /* errno of an accept4 that the next call tells, or 0 */
    int is_own;                     /* the thread that accepts runs the request, too: the host does not get it */
    long patience;                  /* how long to wait for a packet that is not there yet, in nanoseconds */
    int has_waited;                 /* set where that was done */
    int looks;                      /* whether requests of clients that are gone are left to Python, which drops them */
    int looks_left;                 /* of LOOKS_AFTER_ONE */
    double look_at;                 /* when the next connection may be asked for its age, of the monotonic clock */
    dev_t device;                   /* of the socket, and */
    ino_t inode;
} intake;

/* What one call works with. */
typedef struct {
    module_state *state;
    PyObject *scratch;  /* owned: the memoryview of the slot */
    PyObject *kept;     /* of `is_own`: the connection with its request, or NULL */
    Py_ssize_t packet;  /* of the present connection: bytes to take out of the kernel before its host gets it */
} batch;

/* Read what Python may have changed: the slot; false with an error. */
static int
read_batch(intake *self, batch *now)
{
    Py_XSETREF(now->scratch, PyObject_GetAttr(self->flights, now->state->texts[TEXT_SCRATCH]));
    if (now->scratch == NULL || PyErr_Occurred()) {
        return 0;
    }
    if (!PyMemoryView_Check(now->scratch) || PyMemoryView_GET_BUFFER(now->scratch)->readonly) {
        PyErr_SetString(PyExc_TypeError, "the slot is no memory that can be written to");
        return 0;
    }
    return 1;
}

/* Have Python take a connection over, of which so many bytes are in the slot; -1 where it receives by itself. */
static int
leave_to_python(intake *self, batch *now, connection_fields *connection, Py_ssize_t received)
{
    PyObject *count = received < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(received);
    PyObject *done = NULL;
    if (count != NULL) {
        done = PyObject_CallFunctionObjArgs(self->take, (PyObject *)connection, count, NULL);
        Py_DECREF(count);
    }
    Py_XDECREF(done);
    return done != NULL && read_batch(self, now);
}

/* Keep the packet in its slot, as `FlightRecorder.keep_packet`; false with an error. */
static int
keep_packet(intake *self, batch *now, connection_fields *connection)
{
    PyObject *free = PyObject_GetAttr(self->flights, now->state->texts[TEXT_FREE]);
    if (free == NULL) {
        return 0;
    }
    if (!PyList_CheckExact(free)) {
        Py_DECREF(free);
        PyErr_SetString(PyExc_TypeError, "the free slots are no list");
        return 0;
    }
    PyObject *next = pop_item(free);
    int kept = 1;
    if (next == NULL) {
        *(unsigned char *)PyMemoryView_GET_BUFFER(now->scratch)->buf = SLOT_FREE;
        kept = !PyErr_Occurred();
    }
    else {
        kept = PyObject_SetAttr(self->flights, now->state->texts[TEXT_SCRATCH], next) == 0;
        Py_SETREF(connection->slot, now->scratch);
        now->scratch = next;
    }
    Py_DECREF(free);
    return kept;
}

/* Whether the host has room for one more request; -1 with an error. In `*in_flight`, its table: a new reference. */
static int
has_room(const batch *now, PyObject *host, PyObject **in_flight)
{
    PyObject *admission = PyObject_GetAttr(host, now->state->texts[TEXT_ADMISSION]);
    if (admission == NULL) {
        return -1;
    }
    PyObject *limit = PyObject_GetAttr(admission, now->state->texts[TEXT_LIMIT]);
    *in_flight = limit == NULL ? NULL : PyObject_GetAttr(admission, now->state->texts[TEXT_IN_FLIGHT]);
    Py_DECREF(admission);
    Py_ssize_t most = limit == NULL ? -1 : PyLong_AsSsize_t(limit);
    Py_XDECREF(limit);
    Py_ssize_t count = *in_flight == NULL || PyErr_Occurred() ? -1 : PySet_Size(*in_flight);
    return count < 0 ? -1 : count < most;
}

/* Hand a connection with its request to a host. 1, or 0 where it has no room, or -1 with an error. */
static int
submit(intake *self, batch *now, connection_fields *connection, PyObject *host)
{
    PyObject *in_flight = NULL;
    int room = has_room(now, host, &in_flight);
    if (room > 0 && now->packet && drop_peeked(((descriptor *)connection->socket)->fd, now->packet) < 0) {
        room = 0; /* Python meets the same error */
    }
    if (room > 0) {
        count_in(self->arrived.at, 1);
        room = keep_packet(self, now, connection) && PySet_Add(in_flight, (PyObject *)connection) == 0 ? 1 : -1;
    }
    Py_XDECREF(in_flight);
    if (room <= 0) {
        return room;
    }
    if (self->is_own) {
        now->kept = Py_NewRef(connection);
        return 1;
    }
    PyObject *done = PyObject_CallMethodOneArg(host, now->state->texts[TEXT_SUBMIT], (PyObject *)connection);
    Py_XDECREF(done);
    return done == NULL ? -1 : 1;
}

/* Choose the host of a request, and hand it over. 1, or 0 where that is Python's work, or -1 with an error. */
static int
choose_host(intake *self, batch *now, connection_fields *connection)
{
    if (self->host != Py_None) {
        return submit(self, now, connection, self->host);
    }
    PyObject *host = PyObject_CallOneArg(self->select, connection->request);
    if (host == NULL) {
        return -1;
    }
    /* Where nothing is mounted, Python parses the packet again: the vars here are changed by then. */
    int done = host == Py_None ? 0 : submit(self, now, connection, host);
    Py_DECREF(host);
    return done;
}

/* Note what came of a body that has so many bytes, behind a packet that was received with it; false with an error. */
static int
note_body(intake *self, batch *now, connection_fields *connection, Py_ssize_t packet, Py_ssize_t have, long long length)
{
    if (length > have && self->keeps_input_in_kernel) {
        /* What came of it is received with its rest: to copy it twice costs more than a system call. */
        now->packet = packet;
        connection->body_unseen = length;
        return 1;
    }
    Py_ssize_t seen = length < have ? (Py_ssize_t)length : have;
    if (seen) {
        const char *data = PyMemoryView_GET_BUFFER(now->scratch)->buf;
        Py_SETREF(connection->seen_body, PyBytes_FromStringAndSize(data + packet, seen));
    }
    connection->body_unseen = length - seen;
    connection->peeked_bytes = self->keeps_input_in_kernel ? packet + have : 0;
    return connection->seen_body != NULL;
}

/* Make a request of what was received. 1, or 0 where that is not plain, or -1 with an error. In `*whole`, the bytes
   that the packet and the body have. */
static int
read_request(intake *self, batch *now, connection_fields *connection, Py_ssize_t received, long long *whole)
{
    const unsigned char *data = PyMemoryView_GET_BUFFER(now->scratch)->buf;
    Py_ssize_t end;
    if (received <= 0 || data[0] != MODIFIER_REQUEST) {
        return 0;
    }
    known_vars known;
    PyObject *vars = find_vars(now->state, data, received, self->limits.max_vars_bytes, self->limits.max_vars, &known, &end);
    if (vars == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    long long length = settle(now->state, vars, &known, self->limits.max_body_bytes);
    int is_plain = length < -1 ? -1 : length >= 0;
    if (is_plain > 0 && self->file_prefixes != NULL && may_be_file(now->state, vars, self->file_prefixes)) {
        is_plain = 0;
    }
    if (is_plain > 0) {
        *whole = end + length;
        connection->request = make_request(now->state, self->limits.request_type, vars, length);
        if (connection->request == NULL || !note_body(self, now, connection, end, received - end, length)) {
            is_plain = -1;
        }
    }
    Py_DECREF(vars);
    return is_plain;
}

/* Drop what was made of a packet. */
static void
forget_request(batch *now, connection_fields *connection)
{
    Py_CLEAR(connection->request);
    Py_SETREF(connection->seen_body, Py_NewRef(connection->pending));
    connection->peeked_bytes = 0;
    connection->body_unseen = 0;
    now->packet = 0;
}

/* Wait for the packet of a connection, whose frontend has connected and is about to send; -1 where none has come. */
static ssize_t
await_packet(intake *self, batch *now, int fd, Py_ssize_t look)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    const struct timespec patience = {.tv_nsec = self->patience};
    int ready;
    self->has_waited = 1;
    Py_BEGIN_ALLOW_THREADS
    ready = ppoll(&watched, 1, &patience, NULL) > 0;
    Py_END_ALLOW_THREADS
    return ready && read_batch(self, now)
        ? receive(fd, PyMemoryView_GET_BUFFER(now->scratch)->buf, look, self->limits.flags) : -1;
}

/* Whether a request has waited in the backlog until its client was gone. One connection in LOOK_SECONDS is asked for its
   age, and each one where the last one's client was gone. */
static int
has_no_client(intake *self, const module_state *state, const connection_fields *connection, int fd)
{
    if (connection->accepted_at < self->look_at && !self->looks_left) {
        return 0;
    }
    self->look_at = connection->accepted_at + LOOK_SECONDS;
    if (!(seconds_in_queue(state, connection) > LOOK_AFTER_SENT_SECONDS) || !has_left(connection, fd)) {
        self->looks_left -= self->looks_left > 0;
        return 0;
    }
    self->looks_left = LOOKS_AFTER_ONE;
    return 1;
}

/* Take over a connection that was just accepted; false with an error. */
static int
take_connection(intake *self, batch *now, connection_fields *connection, int fd)
{
    Py_buffer *view = PyMemoryView_GET_BUFFER(now->scratch);
    Py_ssize_t look = self->keeps_input_in_kernel && view->len > FIRST_LOOK_BYTES ? FIRST_LOOK_BYTES : view->len;
    ssize_t received = receive(fd, view->buf, look, self->limits.flags);
    if (received < 0 && self->patience && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        received = await_packet(self, now, fd, look);
        if (PyErr_Occurred()) {
            return 0;
        }
    }
    /* The request that reaches the limit is Python's, and so is each one where a limit is not read. */
    int is_last = self->max_requests && *self->arrived.at + 1 >= (uint64_t)self->max_requests;
    long long whole = 0;
    now->packet = 0;
    int done = is_last ? 0 : read_request(self, now, connection, received, &whole);
    if (received == look && look < view->len && done >= 0 && whole <= view->len) {
        /* A large packet, a body of middle size, or what is not plain: all of it is wanted here. */
        forget_request(now, connection);
        received = receive(fd, view->buf, view->len, self->limits.flags);
        done = is_last ? 0 : read_request(self, now, connection, received, &whole);
    }
    if (done > 0 && self->looks && has_no_client(self, now->state, connection, fd)) {
        done = 0;
    }
    if (done > 0) {
        done = choose_host(self, now, connection);
    }
    if (done == 0) {
        /* Python begins with the packet: what was made of it here is dropped. */
        forget_request(now, connection);
        return leave_to_python(self, now, connection, received);
    }
    return done > 0;
}

/* Make the connection of a descriptor; NULL with an error, and the descriptor is closed then. */
static connection_fields *
make_connection(intake *self, const batch *now, int fd)
{
    descriptor *accepted = PyObject_New(descriptor, now->state->descriptor_type);
    if (accepted == NULL) {
        close(fd);
        return NULL;
    }
    accepted->family = self->family;
    accepted->fd = fd;
    connection_fields *connection = make_fields(self->connection_type);
    if (connection == NULL) {
        close_once(accepted);
        Py_DECREF(accepted);
        return NULL;
    }
    connection->socket = (PyObject *)accepted;
    connection->keeps_input_in_kernel = (char)self->keeps_input_in_kernel;
    connection->accepted_at = monotonic_now();
    return connection;
}

/* Close the connection of a peer that may not connect. 1 where that was done, or where it is not known, since the question
   has failed: then with an error. */
static int
refuse_peer(const intake *self, const batch *now, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    PyObject *answer = number == NULL ? NULL : PyObject_CallOneArg(self->admits, number);
    int is_admitted = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(number);
    Py_XDECREF(answer);
    if (is_admitted > 0) {
        return 0;
    }
    *(unsigned char *)PyMemoryView_GET_BUFFER(now->scratch)->buf = SLOT_FREE;
    close(fd);
    return 1;
}

/* Take over a descriptor that accept(2) has given; false with an error. */
static int
take_accepted(intake *self, batch *now, int fd)
{
    if (self->admits != NULL && refuse_peer(self, now, fd)) {
        return !PyErr_Occurred();
    }
    connection_fields *connection = make_connection(self, now, fd);
    int is_well = connection != NULL && take_connection(self, now, connection, fd);
    Py_XDECREF(connection);
    return is_well;
}

/* Whether the descriptor is still the socket that the intake was made for. The application may have put another server's
   in its place, where accept(2) would take what is not ours, or, if that one blocks, wait for ever. */
static int
is_own_socket(const intake *self, int listening)
{
    struct stat found;
    return fstat(listening, &found) == 0 && self->device == found.st_dev && self->inode == found.st_ino;
}

/* Wait for a further connection for a moment, in which threads of the host work. False where none has come, or where
   the application has put another file in the place of the socket meanwhile: what comes there is not for us. */
static int
wait_a_moment(const intake *self, int listening)
{
    struct pollfd watched = {.fd = listening, .events = POLLIN};
    const struct timespec moment = {.tv_nsec = MOMENT_NANOSECONDS};
    int ready;
    Py_BEGIN_ALLOW_THREADS
    ready = ppoll(&watched, 1, &moment, NULL) > 0;
    Py_END_ALLOW_THREADS
    return ready && is_own_socket(self, listening);
}

/* Accept up to so many connections, and hand them over. Gives their number, or -1 with an error. Where accept(2) has
   failed, `failed` is not 0. */
static Py_ssize_t
accept_batch(intake *self, int listening, Py_ssize_t most, int waits)
{
    batch now = {.state = PyType_GetModuleState(Py_TYPE(self))};
    Py_ssize_t taken = 0;
    int is_well = read_batch(self, &now);
    while (is_well && taken < most) {
        /* A worker that is killed from here on may hold a connection: `FlightRecorder.await_packet`. */
        *(unsigned char *)PyMemoryView_GET_BUFFER(now.scratch)->buf = SLOT_AWAITED;
        int fd = accept_nonblocking(listening);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                *(unsigned char *)PyMemoryView_GET_BUFFER(now.scratch)->buf = SLOT_FREE;
                if (taken && waits-- > 0 && wait_a_moment(self, listening)) {
                    is_well = read_batch(self, &now);
                    continue;
                }
            }
            else {
                self->failed = errno;
            }
            break;
        }
        is_well = take_accepted(self, &now, fd);
        taken++;
    }
    Py_XDECREF(now.scratch);
    return is_well ? taken : -1;
}

PyDoc_STRVAR(intake_accept_doc,
"accept(listening, most, waits, /)\n--\n\n"
"Accept up to so many connections of a descriptor, hand plain requests to their host, and have Python take all else.\n\n"
"Where no more wait, but some have come, it waits for a moment, so many times, and goes on if there are some then.\n\n"
"Gives the number of connections, which is less where no more wait, or where accept(2) has failed: then `failed` is\n"
"not 0, and the next call raises why.");

static PyObject *
intake_accept(intake *self, PyObject *const *args, Py_ssize_t count)
{
    int listening;
    Py_ssize_t most;
    int waits;
    if (!check_count("accept", count, 3) || !as_int(args[0], &listening) || !as_size(args[1], &most)
        || !as_int(args[2], &waits))
    {
        return NULL;
    }
    if (!self->failed && !is_own_socket(self, listening)) {
        self->failed = EBADF;
    }
    Py_ssize_t taken = self->failed ? 0 : accept_batch(self, listening, most, waits);
    if (taken < 0) {
        return NULL;
    }
    if (!taken && self->failed) {
        errno = self->failed;
        self->failed = 0;
        return raise_errno();
    }
    return PyLong_FromSsize_t(taken);
}
