/* Lending: threads of a WSGI host accept by themselves on the worker's listening socket, as long as requests are short.
   So a request wakes one thread, and the loop's thread sleeps.

   The loop lends the socket to the queue of those threads, and does not watch it meanwhile. One thread at a time leads:
   it waits at the socket, accepts, runs the request, and leads again. The loop takes the socket back where requests
   take long, so that other threads run beside them, and pings and refusals are answered; and before it stops. Both may
   accept at the same time: the kernel gives each connection to one of them.

   Three descriptors are involved. The leader waits at the listening socket and at the bell, which rings where something
   was put into the queue, or the socket was taken back. The loop waits at the alarm, a timer: by that it learns that
   the leader has not come back for ALARM_SECONDS. A leader that finds the next connection without a wait sets the alarm
   anew each ARM_SECONDS, so that the loop sleeps as long as requests are short. */

#define ALARM_SECONDS 0.005
#define ARM_SECONDS 0.001

/* How long a request may take where one thread is to do all, and where others are free. */
#define SHORT_SECONDS 0.001

/* What `suspicion` may be. Each request that takes longer by itself adds LONG, and each that is short takes 1 off. */
#define MOST_SUSPICION 96
#define LONG 32

/* How long the thread waits for the packet of a connection that it has just accepted, where the frontend has connected
   and is about to send. To hand the connection to the loop costs more. */
#define PATIENCE_NANOSECONDS 300000

/* Set the alarm; 0 nanoseconds stop it. */
static void
set_alarm(handover *self, double seconds)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)},
    };
    (void)timerfd_settime(self->alarm, 0, &when, NULL); /* fails only with a bad descriptor or value */
}

/* Have the loop look after the leader when ALARM_SECONDS have passed from now on. */
static void
arm(handover *self, double now)
{
    self->armed_at = now;
    set_alarm(self, ALARM_SECONDS);
}

/* Have the thread give the socket back; the loop learns of it at once. */
static void
give_back(handover *self)
{
    Py_CLEAR(self->lent);
    set_alarm(self, 1e-9);
}

/* Wait until a connection or something for the queue has come. False where nothing was waiting for, since a connection
   is there; then the interpreter's lock was kept. */
static int
wait_at_socket(handover *self, struct pollfd *watched)
{
    if (poll(watched, 2, 0) != 0) {
        double now = monotonic_now();
        if (now - self->armed_at > ARM_SECONDS) {
            arm(self, now);
        }
        return 0;
    }
    set_alarm(self, 0);
    self->is_polling = 1;
    Py_BEGIN_ALLOW_THREADS
    (void)poll(watched, 2, -1); /* a signal: other threads see to it */
    Py_END_ALLOW_THREADS
    self->is_polling = 0;
    arm(self, monotonic_now());
    return 1;
}

/* Accept a connection that waits, and have `intake` put it into the queue; false with an error. Gives back whether the
   interpreter's lock was let go for it. */
static int
accept_one(handover *self, int *has_waited)
{
    intake *lent = (intake *)Py_NewRef(self->lent);
    lent->has_waited = *has_waited;
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
        set_alarm(self, 1e-9); /* the loop may wait for the end of this */
    }
    *has_waited = lent->has_waited;
    Py_DECREF(lent);
    return taken >= 0;
}

/* Wait for a connection at the socket that was lent, and accept it. 1 where nothing was waited for, 0 where it was, or
   where the socket was given back, -1 with an error. */
static int
accept_lent(handover *self)
{
    struct pollfd watched[2] = {{.fd = self->listening, .events = POLLIN}, {.fd = self->bell, .events = POLLIN}};
    if (!is_own_socket(self->lent, self->listening)) {
        give_back(self);
        return 0;
    }
    int has_waited = wait_at_socket(self, watched);
    if (watched[1].revents & POLLNVAL) {
        /* The application has closed the bell. Another one is made when the socket is lent again. */
        self->bell = -1;
        self->is_ringing = 0;
        give_back(self);
        return 0;
    }
    if (watched[1].revents) {
        uint64_t rings;
        (void)!read(self->bell, &rings, sizeof(rings));
        self->is_ringing = 0;
    }
    if (self->lent == NULL || !watched[0].revents) {
        return !has_waited;
    }
    if (has_waited && !is_own_socket(self->lent, self->listening)) {
        give_back(self);
        return 0;
    }
    return accept_one(self, &has_waited) ? !has_waited : -1;
}

/* Whether the caller is to wait at the socket that was lent, and not at the queue. */
static int
may_lead(const handover *self)
{
    return self->lent != NULL && !self->is_led && self->lender_forks == forks;
}

/* Wait at the socket that was lent, and accept; the result is that of `accept_lent`. */
static int
lead(handover *self)
{
    self->is_led = 1;
    int done = accept_lent(self);
    self->is_led = 0;
    return done;
}

/* Note how this thread has got on up to now.

   The time comes from the thread's own clock, since getrusage(2) tells it as of the last tick only. Neither counts what the
   host of a virtual machine has taken, where it tells the machine of that (steal time). */
static void
note_pace(pace *own)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_THREAD, &usage);
    own->switches = usage.ru_nvcsw;
    own->noted_at = monotonic_now();
    own->computed = seconds_of_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* Note that a request has ended, of a queue whose other threads are free. Where requests often take long, the loop is to
   accept for all of them.

   One takes long by itself where it has waited for something, or computed. One that was kept from the processor, by another
   process or by the host of a virtual machine, does not: no other thread would have got on. Neither does one that the loop has
   accepted, beside which others ran. A single one may also have waited for the interpreter's lock, which the loop had. */
static void
note_end(handover *self, pace *own, double began)
{
    double lasted = monotonic_now() - began;
    if (lasted <= SHORT_SECONDS || began < self->lent_at) {
        self->suspicion -= self->suspicion > 0;
        return;
    }
    const pace before = *own;
    note_pace(own);
    /* Those before it were short, so that it was this one that was away. */
    double away = own->noted_at - before.noted_at - (own->computed - before.computed);
    if (own->switches > before.switches || lasted - away > SHORT_SECONDS) {
        self->suspicion += LONG;
    }
    if (self->suspicion > MOST_SUSPICION) {
        give_back(self);
    }
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
"Have the threads that wait at this queue accept on a descriptor by an intake, whose host puts into this queue.");

static PyObject *
handover_lend(handover *self, PyObject *const *args, Py_ssize_t count)
{
    int listening;
    module_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (!check_count("lend", count, 2) || !as_int(args[1], &listening)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->intake_type)) {
        PyErr_SetString(PyExc_TypeError, "connections are accepted by an Intake");
        return NULL;
    }
    if (!open_bells(self)) {
        return raise_errno();
    }
    ((intake *)args[0])->patience = PATIENCE_NANOSECONDS;
    self->listening = listening;
    self->lender_forks = forks;
    self->suspicion = 0;
    self->lent_at = monotonic_now();
    Py_XSETREF(self->lent, (intake *)Py_NewRef(args[0]));
    /* All threads may be busy. */
    arm(self, self->lent_at);
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
"Have the alarm's descriptor, `fileno()`, become readable in so many seconds, less than a day; 0 stops it.");

static PyObject *
handover_set_alarm(handover *self, PyObject *seconds)
{
    double wanted = PyFloat_AsDouble(seconds);
    if (wanted == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(wanted >= 0 && wanted < 86400)) {
        PyErr_SetString(PyExc_ValueError, "an alarm comes in less than a day");
        return NULL;
    }
    if (!open_bells(self)) {
        return raise_errno();
    }
    set_alarm(self, wanted);
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
