/* The queue between the listener and the threads of a WSGI host: what `queue.SimpleQueue` does for them, with as few
   threads woken as will do.

   The interpreter's lock guards everything but the wait itself; without it, a guard does. One thread at the most is being
   woken at a time: a thread that takes something while more is there wakes the next one. So for a batch of short
   requests, the thread that was woken first does most of them, and for requests that wait, each thread gets one soon. */

/* A thread that waits; on the stack of that thread. */
typedef struct waiter {
    sem_t woken;
    struct waiter *next;
} waiter;

#ifdef Py_GIL_DISABLED
/* The listening socket that threads accept on by themselves: `sharing.h`. */
typedef struct {
    int listening;         /* -1 where they don't */
    int bell;              /* an eventfd */
    int is_led;            /* a thread waits at the socket and at the bell */
    int is_ringing;        /* the bell was rung, and the thread has not heard it yet */
    int has_failed;        /* accept(2), so that it is the loop's turn */
    struct seat_of_thread *seats;
    Py_ssize_t seat_count;
} shared_socket;
#endif

typedef struct {
    PyObject_HEAD
    PyObject **items;     /* a ring */
    Py_ssize_t capacity;  /* a power of two */
    Py_ssize_t first;
    Py_ssize_t count;
    waiter *waiters;      /* the one that has waited for the shortest time comes first: its memory is still near */
    int is_waking;        /* a thread was woken, and has not got the interpreter's lock yet */
    Py_ssize_t taken;     /* of all items so far */
    /* What `lending.h` needs. */
    intake *lent;         /* accepts for the threads, or NULL */
    int listening;        /* the socket that they accept on */
    sig_atomic_t lender_forks;  /* as `forks`, when it was lent */
    int bell;             /* an eventfd, and */
    int alarm;            /* a timerfd; -1 where nothing was lent yet */
    int is_led;           /* a thread waits at the socket, or accepts */
    int is_polling;       /* that thread waits */
    int is_ringing;       /* the bell was rung, and that thread has not heard it yet */
    char is_accepting;    /* that thread may have a connection that is in no table yet */
    Py_ssize_t accepted;  /* by threads */
    double lent_at;       /* by the monotonic clock, in seconds, as the next one */
    double armed_at;      /* when a thread that leads set the alarm */
    int suspicion;        /* that requests take long: see `note_end` */
    guard guard;          /* of all but this */
#ifdef Py_GIL_DISABLED
    shared_socket shared;
#endif
} handover;

/* What a thread knew of itself when it last waited for a request, or had one that took long. */
typedef struct {
    long switches;    /* how often it had let the processor go */
    double noted_at;  /* by the monotonic clock, in seconds */
    double computed;  /* how many seconds it had had the processor */
} pace;

/* Have the thread that waits at the socket that was lent, or is shared, look at the queue. */
static void
ring(handover *self)
{
#ifdef Py_GIL_DISABLED
    int *is_ringing = &self->shared.is_ringing;
    int bell = self->shared.is_led ? self->shared.bell : -1;
#else
    int *is_ringing = &self->is_ringing;
    int bell = self->is_polling ? self->bell : -1;
#endif
    if (bell >= 0 && !*is_ringing) {
        *is_ringing = 1;
        (void)!eventfd_write(bell, 1);
    }
}

/* Wake a thread, if one waits and none is being woken. Within the guard, as all functions here but those for Python. */
static void
wake_one(handover *self)
{
    waiter *next = self->waiters;
    if (next == NULL) {
        ring(self);
    }
    else if (!self->is_waking) {
        self->waiters = next->next;
        self->is_waking = 1;
        sem_post(&next->woken);
    }
}

/* Make the ring twice as large; false where there is no memory for it. */
static int
grow_ring(handover *self)
{
    Py_ssize_t capacity = self->capacity ? self->capacity * 2 : 64;
    PyObject **items = PyMem_New(PyObject *, capacity);
    if (items == NULL) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        items[i] = self->items[(self->first + i) & (self->capacity - 1)];
    }
    PyMem_Free(self->items);
    self->items = items;
    self->capacity = capacity;
    self->first = 0;
    return 1;
}

PyDoc_STRVAR(handover_put_doc,
"put(item, /)\n--\n\n"
"Append an item, and wake a thread that waits; never waits itself.");

static PyObject *
handover_put(handover *self, PyObject *item)
{
    HOLD(&self->guard);
    int has_place = self->count < self->capacity || grow_ring(self);
    if (has_place) {
        self->items[(self->first + self->count++) & (self->capacity - 1)] = Py_NewRef(item);
        /* A thread that accepts looks at the queue afterwards, and mostly it is that thread which has put something here. */
        if (!self->is_accepting) {
            wake_one(self);
        }
    }
    LET_GO(&self->guard);
    return has_place ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

/* Take the first item of a queue that has one; a new reference. */
static PyObject *
take_item(handover *self)
{
    PyObject *item = self->items[self->first];
    self->first = (self->first + 1) & (self->capacity - 1);
    self->count--;
    self->taken++;
    return item;
}

/* Wait until this thread is woken, which is when an item was put; another thread may be faster to take it. Does not wait
   where there is an item. */
static void
wait_to_be_woken(handover *self)
{
    HOLD(&self->guard);
    if (self->count) {
        LET_GO(&self->guard);
        return;
    }
    waiter me = {.next = self->waiters};
    sem_init(&me.woken, 0, 0);
    self->waiters = &me;
    LET_GO(&self->guard);
    Py_BEGIN_ALLOW_THREADS
    while (sem_wait(&me.woken) < 0) {
        /* A signal came: other threads see to it. */
    }
    Py_END_ALLOW_THREADS
    /* Whoever has woken this thread was within the guard, and has done with the semaphore once this thread is. */
    HOLD(&self->guard);
    self->is_waking = 0;
    LET_GO(&self->guard);
    sem_destroy(&me.woken);
}

/* Take the first item, and have a further thread come for the next; a new reference. NULL where there is none. */
static PyObject *
take_in_turn(handover *self)
{
    HOLD(&self->guard);
    PyObject *item = self->count ? take_item(self) : NULL;
    if (self->count) {
        wake_one(self);
    }
    LET_GO(&self->guard);
    return item;
}

PyDoc_STRVAR(handover_get_doc,
"get()\n--\n\n"
"Take the first item; wait for one where there is none.");

static PyObject *
handover_get(handover *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *item;
    while ((item = take_in_turn(self)) == NULL) {
        wait_to_be_woken(self);
    }
    return item;
}

PyDoc_STRVAR(handover_get_nowait_doc,
"get_nowait()\n--\n\n"
"Take the first item; raise `queue.Empty` where there is none.");

static PyObject *
handover_get_nowait(handover *self, PyObject *Py_UNUSED(ignored))
{
    HOLD(&self->guard);
    PyObject *item = self->count ? take_item(self) : NULL;
    LET_GO(&self->guard);
    if (item != NULL) {
        return item;
    }
    PyObject *module = PyImport_ImportModule("queue");
    PyObject *error = module == NULL ? NULL : PyObject_GetAttrString(module, "Empty");
    if (error != NULL) {
        PyErr_SetNone(error);
    }
    Py_XDECREF(error);
    Py_XDECREF(module);
    return NULL;
}
