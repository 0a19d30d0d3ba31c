/* What has become of requests, recorded in cells that other processes read: `figures.recorder` has the same for Python. */

/* The form of a block: as in `figures.layout`. */
enum {
    CELL_PENDING, CELL_PENDING_VALUE, CELL_RECEIVED, CELL_SENT, CELL_MESSAGES_IN, CELL_MESSAGES_OUT,
    CELL_REQUESTS = 8,
};
#define METHODS 8
#define OUTCOME_ROW 8
#define OUTCOMES 7
#define OUTCOME_CUT 5
#define OUTCOME_NONE 6
#define FIRST_HISTOGRAM (CELL_REQUESTS + METHODS * OUTCOME_ROW)

/* What is measured of each request. */
enum {TIME_FRONTEND, TIME_QUEUE, TIME_APPLICATION, TIME_SEND, TIME_TOTAL, TIMES};

/* Cells of eight bytes in memory that Python has made. Each has one writer; `observe` and the others are within the
   interpreter's lock, or belong to one thread. */
typedef struct {
    Py_buffer view;
    uint64_t *at;    /* NULL before `hold_cells` */
    Py_ssize_t count;
} cells;

typedef struct {
    PyObject_HEAD
    cells cells;
    Py_ssize_t bounds_count;
    double *bounds;  /* growing */
} recorder;

/* Hold cells that Python has made; false with an error. */
static int
hold_cells(cells *self, PyObject *memory, Py_ssize_t least)
{
    if (PyObject_GetBuffer(memory, &self->view, PyBUF_CONTIG | PyBUF_FORMAT) < 0) {
        return 0;
    }
    self->at = self->view.buf;
    self->count = self->view.len / (Py_ssize_t)sizeof(uint64_t);
    if (self->view.itemsize != sizeof(uint64_t) || self->count < least || (uintptr_t)self->at % sizeof(uint64_t)) {
        PyErr_Format(PyExc_ValueError, "these are no %zd cells of eight bytes", least);
        return 0;
    }
    return 1;
}

static void
drop_cells(cells *self)
{
    if (self->view.obj != NULL) {
        PyBuffer_Release(&self->view);
    }
    self->at = NULL;
}

/* Count in a cell: a store that other processes see whole. */
static inline void
count_in(uint64_t *cell, uint64_t by)
{
    __atomic_store_n(cell, *cell + by, __ATOMIC_RELAXED);
}

static inline double
seconds_of_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The time of `time.monotonic()`. */
static double
monotonic_now(void)
{
    return seconds_of_clock(CLOCK_MONOTONIC);
}

/* The bytes of a request's body; 0 where they are not known. */
static long long
body_bytes_of(const module_state *state, PyObject *request)
{
    PyObject *length = PyObject_GetAttr(request, state->texts[TEXT_LENGTH]);
    long long bytes = length == NULL ? -1 : PyLong_AsLongLong(length);
    Py_XDECREF(length);
    if (bytes == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        bytes = 0;
    }
    return bytes;
}

/* The row of a method. */
static int
method_row(PyObject *method)
{
    static const char *const words[METHODS - 1] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    if (method != NULL && PyUnicode_Check(method) && is_narrow(method)) {
        for (int row = 0; row < METHODS - 1; row++) {
            if (is_word(method, words[row], (Py_ssize_t)strlen(words[row]))) {
                return row;
            }
        }
    }
    return METHODS - 1;
}

/* The outcome of a whole answer with this status, which is one of three digits. */
static inline int
outcome_of_whole(long status)
{
    return status < 100 ? OUTCOME_NONE : (status < 500 ? (int)(status / 100) - 1 : 4);
}

static inline Py_ssize_t
request_cell(int row, int outcome)
{
    return CELL_REQUESTS + row * OUTCOME_ROW + outcome;
}

/* Note that an answer is about to be sent whole, as `Recorder.mark`. */
static inline void
mark_answer(recorder *self, int row, int outcome)
{
    uint64_t *at = self->cells.at;
    Py_ssize_t cell = request_cell(row, outcome);
    __atomic_store_n(&at[CELL_PENDING_VALUE], at[cell] + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&at[CELL_PENDING], (uint64_t)cell, __ATOMIC_RELEASE);
}

static inline void
unmark_answer(recorder *self)
{
    __atomic_store_n(&self->cells.at[CELL_PENDING], 0, __ATOMIC_RELEASE);
}

/* Put one observation into a histogram. */
static inline void
observe(const recorder *self, int which, double seconds)
{
    if (seconds < 0.0) {
        return;
    }
    Py_ssize_t range = 0;
    while (range < self->bounds_count && seconds > self->bounds[range]) {
        range++;
    }
    uint64_t *histogram = self->cells.at + FIRST_HISTOGRAM + which * (self->bounds_count + 2);
    count_in(histogram + range, 1);
    count_in(histogram + self->bounds_count + 1, (uint64_t)(seconds * 1e9));
}

/* Record a request that is over, as `Recorder.record`. */
static void
record_request(recorder *self, int row, int outcome, long long received, long long sent, const double *seconds)
{
    uint64_t *at = self->cells.at;
    count_in(at + request_cell(row, outcome), 1);
    unmark_answer(self);
    if (received > 0) {
        count_in(at + CELL_RECEIVED, (uint64_t)received);
    }
    if (sent > 0) {
        count_in(at + CELL_SENT, (uint64_t)sent);
    }
    for (int which = 0; which < TIMES; which++) {
        observe(self, which, seconds[which]);
    }
}

static int
recorder_outcome(PyObject *argument, int *outcome)
{
    if (!as_int(argument, outcome)) {
        return 0;
    }
    if (*outcome < 0 || *outcome >= OUTCOMES) {
        PyErr_SetString(PyExc_ValueError, "there is no such outcome");
        return 0;
    }
    return 1;
}

PyDoc_STRVAR(recorder_mark_doc,
"mark(method, outcome, /)\n--\n\n"
"Note that an answer is about to be sent whole.");

static PyObject *
recorder_mark(recorder *self, PyObject *const *args, Py_ssize_t count)
{
    int outcome;
    if (!check_count("mark", count, 2) || !recorder_outcome(args[1], &outcome)) {
        return NULL;
    }
    mark_answer(self, method_row(args[0]), outcome);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(recorder_unmark_doc,
"unmark()\n--\n\n"
"Note that the answer was not sent whole after all.");

static PyObject *
recorder_unmark(recorder *self, PyObject *Py_UNUSED(ignored))
{
    unmark_answer(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(recorder_record_doc,
"record(method, outcome, received, sent, seconds, /)\n--\n\n"
"Record a request that is over.");

static PyObject *
recorder_record(recorder *self, PyObject *const *args, Py_ssize_t count)
{
    int outcome;
    Py_ssize_t received, sent;
    double seconds[TIMES];
    if (!check_count("record", count, 5) || !recorder_outcome(args[1], &outcome) || !as_size(args[2], &received)
        || !as_size(args[3], &sent))
    {
        return NULL;
    }
    PyObject *times = args[4];
    if (!PyTuple_CheckExact(times) || PyTuple_GET_SIZE(times) != TIMES) {
        PyErr_Format(PyExc_TypeError, "the times of a request are a tuple of %d", TIMES);
        return NULL;
    }
    for (int which = 0; which < TIMES; which++) {
        seconds[which] = PyFloat_AsDouble(PyTuple_GET_ITEM(times, which));
        if (seconds[which] == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
    }
    record_request(self, method_row(args[0]), outcome, received, sent, seconds);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(recorder_count_messages_doc,
"count_messages(received, sent, /)\n--\n\n"
"Count messages of WebSockets.");

static PyObject *
recorder_count_messages(recorder *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t received, sent;
    if (!check_count("count_messages", count, 2) || !as_size(args[0], &received) || !as_size(args[1], &sent)) {
        return NULL;
    }
    count_in(self->cells.at + CELL_MESSAGES_IN, (uint64_t)received);
    count_in(self->cells.at + CELL_MESSAGES_OUT, (uint64_t)sent);
    Py_RETURN_NONE;
}

static PyObject *
recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", NULL};
    PyObject *memory, *bounds;
    recorder *self = (recorder *)type->tp_alloc(type, 0);
    if (self == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "OO!:Recorder", names, &memory, &PyTuple_Type, &bounds))
    {
        Py_XDECREF(self);
        return NULL;
    }
    self->bounds_count = PyTuple_GET_SIZE(bounds);
    self->bounds = PyMem_Calloc((size_t)self->bounds_count + 1, sizeof(double));
    if (self->bounds == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < self->bounds_count; i++) {
        self->bounds[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(bounds, i));
    }
    if (PyErr_Occurred() || !hold_cells(&self->cells, memory, FIRST_HISTOGRAM + TIMES * (self->bounds_count + 2))) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
recorder_dealloc(recorder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    drop_cells(&self->cells);
    PyMem_Free(self->bounds);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef recorder_methods[] = {
    {"mark", (PyCFunction)(void (*)(void))recorder_mark, METH_FASTCALL, recorder_mark_doc},
    {"unmark", (PyCFunction)recorder_unmark, METH_NOARGS, recorder_unmark_doc},
    {"record", (PyCFunction)(void (*)(void))recorder_record, METH_FASTCALL, recorder_record_doc},
    {"count_messages", (PyCFunction)(void (*)(void))recorder_count_messages, METH_FASTCALL,
     recorder_count_messages_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(recorder_doc,
"Recorder(cells, bounds, /)\n--\n\n"
"Records what has become of requests, as `uwsgibridge.figures.recorder.PythonRecorder`.");

static PyType_Slot recorder_slots[] = {
    {Py_tp_doc, (void *)recorder_doc},
    {Py_tp_new, recorder_new},
    {Py_tp_dealloc, recorder_dealloc},
    {Py_tp_methods, recorder_methods},
    {0, NULL},
};

static PyType_Spec recorder_spec = {
    .name = "uwsgibridge.fast._fast.Recorder",
    .basicsize = sizeof(recorder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = recorder_slots,
};
