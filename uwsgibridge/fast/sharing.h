/* Sharing: without the interpreter's lock, each thread of a WSGI host accepts by itself on the worker's listening socket. So
   all of a request is done by one thread, whose objects no other thread has references to, and nothing is handed over.

   Of the threads without a request, one waits at the socket, and at the bell, which rings where something was put into the
   queue. The others wait at the queue. Whoever gets a connection first wakes one of them, which waits at the socket next.

   The loop goes on watching the socket, and accepts where the threads don't get on: `worker.sharing`. */

#ifdef Py_GIL_DISABLED

/* What a thread accepts by; it belongs to one thread at a time. */
typedef struct seat_of_thread {
    intake *intake;
    int is_taken;
    int is_accepting;     /* the thread may have a connection that is in no table yet */
    Py_ssize_t accepted;
} seat;

/* Set what other threads look at, or look at it: in one order for all of them. */
#define TELL(place, value) __atomic_store_n(place, value, __ATOMIC_SEQ_CST)
#define ASK(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)

/* Give a thread a seat, if one is free; NULL else. */
static seat *
take_seat(handover *self)
{
    seat *found = NULL;
    HOLD(&self->guard);
    for (Py_ssize_t i = 0; found == NULL && i < self->shared.seat_count; i++) {
        if (!self->shared.seats[i].is_taken) {
            found = &self->shared.seats[i];
            found->is_taken = 1;
        }
    }
    LET_GO(&self->guard);
    return found;
}

/* Accept one connection. 1 with a request of it in `*connection`, a new reference; or with none, where it is not plain and
   was given to Python. 0 where none waits or accept(2) has failed, -1 with an error. */
static int
accept_own(intake *self, shared_socket *shared, int listening, PyObject **connection)
{
    batch now = {.state = PyType_GetModuleState(Py_TYPE(self))};
    if (!read_batch(self, &now)) {
        Py_XDECREF(now.scratch);
        return -1;
    }
    /* As in `intake_accept`. */
    *(unsigned char *)PyMemoryView_GET_BUFFER(now.scratch)->buf = SLOT_AWAITED;
    int fd = accept_nonblocking(listening);
    int is_well = 1;
    if (fd < 0) {
        *(unsigned char *)PyMemoryView_GET_BUFFER(now.scratch)->buf = SLOT_FREE;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            TELL(&shared->has_failed, 1); /* the loop meets the same error, and knows what to do */
        }
    }
    else {
        is_well = take_accepted(self, &now, fd);
    }
    Py_DECREF(now.scratch);
    *connection = now.kept;
    return is_well ? fd >= 0 : -1;
}

/* Whether threads accept now. */
static inline int
may_share(shared_socket *shared)
{
    return ASK(&shared->listening) >= 0 && !ASK(&shared->has_failed);
}

/* Have another thread wait at the socket, where this one is about to run a request and nobody does. */
static inline void
pass_lead_on(handover *self)
{
    /* One that is being woken waits at the socket by itself, or passes on what it gets: no need to take the guard for it. */
    if (ASK(&self->waiters) != NULL && !ASK(&self->shared.is_led) && !ASK(&self->is_waking)) {
        HOLD(&self->guard);
        if (!self->shared.is_led && self->waiters != NULL) {
            wake_one(self);
        }
        LET_GO(&self->guard);
    }
}

/* Accept a connection of the shared socket, if there is one; the result is that of `accept_own`. */
static int
accept_shared(handover *self, seat **own, PyObject **connection)
{
    shared_socket *shared = &self->shared;
    if (!may_share(shared) || (*own == NULL && (*own = take_seat(self)) == NULL)) {
        return 0;
    }
    /* Whoever stops the sharing looks at this flag after it has set `listening`. */
    TELL(&(*own)->is_accepting, 1);
    int listening = ASK(&shared->listening);
    int done = 0;
    if (listening >= 0 && is_own_socket((*own)->intake, listening)) {
        done = accept_own((*own)->intake, shared, listening, connection);
        TELL(&(*own)->accepted, (*own)->accepted + (done > 0));
    }
    else {
        TELL(&shared->has_failed, 1); /* to wait there would end at once, again and again */
    }
    TELL(&(*own)->is_accepting, 0);
    if (done) {
        pass_lead_on(self);
    }
    return done;
}

/* Wait at the socket, if nobody else does; false where somebody does, or where it is not shared. */
static int
lead(handover *self)
{
    shared_socket *shared = &self->shared;
    HOLD(&self->guard);
    int listening = may_share(shared) && !self->count && !shared->is_led ? shared->listening : -1;
    if (listening >= 0) {
        shared->is_led = 1;
    }
    LET_GO(&self->guard);
    if (listening < 0) {
        return 0;
    }
    struct pollfd watched[] = {{.fd = listening, .events = POLLIN}, {.fd = shared->bell, .events = POLLIN}};
    Py_BEGIN_ALLOW_THREADS
    (void)poll(watched, 2, -1); /* a signal: other threads see to it */
    Py_END_ALLOW_THREADS
    HOLD(&self->guard);
    shared->is_led = 0;
    if (watched[1].revents & POLLNVAL) {
        /* The application has closed the bell: without one, the loop accepts for all threads. */
        shared->bell = -1;
        TELL(&shared->listening, -1);
    }
    else if (shared->is_ringing) {
        eventfd_t rung;
        shared->is_ringing = 0;
        (void)eventfd_read(shared->bell, &rung);
    }
    LET_GO(&self->guard);
    return 1;
}

/* Get the next connection for a thread. 1 with it, or 0 where it has waited, or where there was none for it, or -1 with an
   error. */
static int
next_connection(handover *self, seat **own, PyObject **connection)
{
    *connection = ASK(&self->count) ? take_in_turn(self) : NULL;
    if (*connection != NULL) {
        pass_lead_on(self);
        return 1;
    }
    int done = accept_shared(self, own, connection);
    if (done != 0) {
        return done < 0 ? -1 : *connection != NULL;
    }
    if (*own == NULL || !lead(self)) {
        wait_to_be_woken(self);
    }
    return 0;
}

/* Forget what threads accept by. */
static void
clear_seats(shared_socket *shared)
{
    for (Py_ssize_t i = 0; i < shared->seat_count; i++) {
        Py_CLEAR(shared->seats[i].intake);
    }
    PyMem_Free(shared->seats);
    shared->seats = NULL;
    shared->seat_count = 0;
}

/* Make the seats of as many threads as there are intakes; false with an error. */
static int
make_seats(handover *self, PyObject *intakes)
{
    Py_ssize_t count = PyTuple_GET_SIZE(intakes);
    seat *seats = PyMem_Calloc((size_t)count + 1, sizeof(seat));
    if (seats == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        seats[i].intake = (intake *)Py_NewRef(PyTuple_GET_ITEM(intakes, i));
        seats[i].intake->is_own = 1;
    }
    HOLD(&self->guard);
    self->shared.seats = seats;
    self->shared.seat_count = count;
    LET_GO(&self->guard);
    return 1;
}

PyDoc_STRVAR(handover_share_doc,
"share(listening, intakes, /)\n--\n\n"
"Have threads accept on a descriptor by themselves, each by one of these `Intake`s. To be called once.");

static PyObject *
handover_share(handover *self, PyObject *const *args, Py_ssize_t count)
{
    int listening;
    PyTypeObject *intake_type = ((module_state *)PyType_GetModuleState(Py_TYPE(self)))->intake_type;
    if (!check_count("share", count, 2) || !as_int(args[0], &listening)) {
        return NULL;
    }
    int is_fit = PyTuple_CheckExact(args[1]) && self->shared.seats == NULL;
    for (Py_ssize_t i = 0; is_fit && i < PyTuple_GET_SIZE(args[1]); i++) {
        is_fit = Py_IS_TYPE(PyTuple_GET_ITEM(args[1], i), intake_type);
    }
    if (!is_fit) {
        PyErr_SetString(PyExc_TypeError, "share takes a tuple of intakes, once");
        return NULL;
    }
    self->shared.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->shared.bell < 0) {
        return raise_errno();
    }
    if (!make_seats(self, args[1])) {
        return NULL;
    }
    TELL(&self->shared.listening, listening);
    HOLD(&self->guard);
    wake_one(self);
    LET_GO(&self->guard);
    Py_RETURN_NONE;
}

/* Whether a thread may have a connection that is in no table yet. */
static int
is_accepting(const shared_socket *shared)
{
    for (Py_ssize_t i = 0; i < shared->seat_count; i++) {
        if (ASK(&shared->seats[i].is_accepting)) {
            return 1;
        }
    }
    return 0;
}

PyDoc_STRVAR(handover_unshare_doc,
"unshare()\n--\n\n"
"Have threads accept no more; what they have accepted is in a table after the return.");

static PyObject *
handover_unshare(handover *self, PyObject *Py_UNUSED(ignored))
{
    const struct timespec moment = {.tv_nsec = 20000};
    TELL(&self->shared.listening, -1);
    HOLD(&self->guard);
    ring(self);
    LET_GO(&self->guard);
    /* To take a connection over waits for nothing. */
    while (is_accepting(&self->shared)) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&moment, NULL);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(handover_go_on_doc,
"go_on()\n--\n\n"
"Have threads accept again where accept(2) had failed for one of them.");

static PyObject *
handover_go_on(handover *self, PyObject *Py_UNUSED(ignored))
{
    if (ASK(&self->shared.has_failed)) {
        TELL(&self->shared.has_failed, 0);
        HOLD(&self->guard);
        wake_one(self);
        LET_GO(&self->guard);
    }
    Py_RETURN_NONE;
}

static PyObject *
handover_accepted(handover *self, void *Py_UNUSED(closure))
{
    Py_ssize_t accepted = 0;
    for (Py_ssize_t i = 0; i < self->shared.seat_count; i++) {
        accepted += ASK(&self->shared.seats[i].accepted);
    }
    return PyLong_FromSsize_t(accepted);
}

static PyObject *
handover_is_watched(handover *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ASK(&self->shared.is_led) && may_share(&self->shared));
}

#define SHARING_METHODS \
    {"share", (PyCFunction)(void (*)(void))handover_share, METH_FASTCALL, handover_share_doc}, \
    {"unshare", (PyCFunction)handover_unshare, METH_NOARGS, handover_unshare_doc}, \
    {"go_on", (PyCFunction)handover_go_on, METH_NOARGS, handover_go_on_doc},

#define SHARING_ATTRIBUTES \
    {"accepted", (getter)handover_accepted, NULL, "How many connections threads have accepted by themselves.", NULL}, \
    {"is_watched", (getter)handover_is_watched, NULL, "Whether a thread waits at the shared socket.", NULL},

#endif
