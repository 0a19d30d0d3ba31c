/* Lending: the only thread of a WSGI host accepts by itself on the worker's listening socket, as long as its requests
   are short. So a request wakes one thread, and the loop's thread sleeps.

   The loop lends the socket to the queue of that thread, and does not watch it meanwhile. It takes the socket back when
   a request runs for longer than ALARM_NANOSECONDS, so that pings and refusals are answered beside it, and before it
   stops. Both may accept at the same time: the kernel gives each connection to one of them.

   Three descriptors are involved. The thread waits at the listening socket and at the bell, which rings where something
   was put into the queue, or the socket was taken back. The loop waits at the alarm, a timer. */

/* How long a request of the thread may run before the loop accepts beside it. */
#define ALARM_NANOSECONDS 5000000

/* How long the thread waits for the packet of a connection that it has just accepted, where the frontend has connected
   and is about to send. To hand the connection to the loop costs more. */
#define PATIENCE_NANOSECONDS 300000

/* Whether the descriptor is the socket that was lent: the application may have closed it, and its number may be
   another file's by now. */
static int
is_lent_socket(const handover *self)
{
    struct stat found;
    return fstat(self->listening, &found) == 0 && found.st_dev == self->device && found.st_ino == self->inode;
}

/* Set the alarm; 0 nanoseconds stop it. */
static void
set_alarm(handover *self, long nanoseconds)
{
    const struct itimerspec when = {.it_value = {.tv_nsec = nanoseconds}};
    (void)timerfd_settime(self->alarm, 0, &when, NULL); /* fails only with a bad descriptor or value */
}

/* Have the thread give the socket back; the loop learns of it at once. */
static void
give_back(handover *self)
{
    Py_CLEAR(self->lent);
    set_alarm(self, 1);
}

/* Wait until a connection or something for the queue has come. False where nothing was waiting for, since a connection
   is there; then the interpreter's lock was kept. */
static int
wait_at_socket(handover *self, struct pollfd *watched)
{
    if (poll(watched, 2, 0) != 0) {
        return 0;
    }
    set_alarm(self, 0);
    self->is_polling = 1;
    Py_BEGIN_ALLOW_THREADS
    (void)poll(watched, 2, -1); /* a signal: other threads see to it */
    Py_END_ALLOW_THREADS
    self->is_polling = 0;
    set_alarm(self, ALARM_NANOSECONDS);
    return 1;
}

/* Wait for a connection at the socket that was lent, and have `intake` put it into the queue. 1 where nothing was waited
   for, 0 where it was, or where the socket was given back, -1 with an error. */
static int
accept_lent(handover *self)
{
    struct pollfd watched[2] = {{.fd = self->listening, .events = POLLIN}, {.fd = self->bell, .events = POLLIN}};
    if (!is_lent_socket(self)) {
        give_back(self);
        return 0;
    }
    int has_waited = wait_at_socket(self, watched);
    if (watched[1].revents) {
        uint64_t rings;
        (void)!read(self->bell, &rings, sizeof(rings));
        self->is_ringing = 0;
    }
    if (self->lent == NULL || !watched[0].revents) {
        return !has_waited;
    }
    if (has_waited && !is_lent_socket(self)) {
        give_back(self);
        return 0;
    }
    intake *lent = (intake *)Py_NewRef(self->lent);
    lent->has_waited = has_waited;
    self->is_accepting = 1;
    Py_ssize_t taken = accept_batch(lent, self->listening, 1, 0);
    self->is_accepting = 0;
    self->accepted += taken > 0;
    if (lent->failed) {
        /* The loop meets the same error, and knows what to do. */
        lent->failed = 0;
        give_back(self);
    }
    else if (self->lent == NULL) {
        set_alarm(self, 1); /* the loop may wait for the end of this */
    }
    has_waited = lent->has_waited;
    Py_DECREF(lent);
    return taken < 0 ? -1 : !has_waited;
}

/* Open the bell and the alarm; false with errno. */
static int
open_bells(handover *self)
{
    if (self->bell < 0) {
        self->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    if (self->alarm < 0) {
        self->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    }
    return self->bell >= 0 && self->alarm >= 0;
}

PyDoc_STRVAR(lend_doc,
"lend(intake, listening, /)\n--\n\n"
"Have the thread that waits at this queue accept on a descriptor by an intake, whose host puts into this queue.");

static PyObject *
handover_lend(handover *self, PyObject *const *args, Py_ssize_t count)
{
    struct stat found;
    int listening;
    module_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (!check_count("lend", count, 2) || !as_int(args[1], &listening)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->intake_type)) {
        PyErr_SetString(PyExc_TypeError, "connections are accepted by an Intake");
        return NULL;
    }
    if (!open_bells(self) || fstat(listening, &found) < 0) {
        return raise_errno();
    }
    ((intake *)args[0])->patience = PATIENCE_NANOSECONDS;
    self->listening = listening;
    self->device = found.st_dev;
    self->inode = found.st_ino;
    self->lender_forks = forks;
    Py_XSETREF(self->lent, (intake *)Py_NewRef(args[0]));
    wake_one(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_back_doc,
"take_back()\n--\n\n"
"Take the socket back that was lent. The thread may be about to hand over one more connection: see `is_accepting`.");

static PyObject *
handover_take_back(handover *self, PyObject *Py_UNUSED(ignored))
{
    if (self->lent != NULL) {
        Py_CLEAR(self->lent);
        ring(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(alarm_doc,
"set_alarm(seconds, /)\n--\n\n"
"Have the alarm's descriptor, `fileno()`, become readable in so many seconds, less than one; 0 stops it.");

static PyObject *
handover_set_alarm(handover *self, PyObject *seconds)
{
    double wanted = PyFloat_AsDouble(seconds);
    if (wanted == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(wanted >= 0 && wanted < 1)) {
        PyErr_SetString(PyExc_ValueError, "an alarm comes in less than a second");
        return NULL;
    }
    if (!open_bells(self)) {
        return raise_errno();
    }
    set_alarm(self, (long)(wanted * 1e9));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(hear_doc,
"hear_alarm()\n--\n\n"
"Stop the alarm's descriptor from being readable.");

static PyObject *
handover_hear_alarm(handover *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t times;
    (void)!read(self->alarm, &times, sizeof(times));
    Py_RETURN_NONE;
}
