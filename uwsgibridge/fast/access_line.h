/* A line of the access log as JSON, for requests whose texts need no escapes: `telemetry.access_log` has it for all. */

/* A longer line is one whose texts have to be cut. */
#define MAX_ACCESS_LINE_BYTES 4095

typedef struct {
    char *place;
    char *end;
} line_space;

/* Append bytes; false where they do not fit. */
static int
append_bytes(line_space *line, const char *bytes, size_t size)
{
    if ((size_t)(line->end - line->place) < size) {
        return 0;
    }
    memcpy(line->place, bytes, size);
    line->place += size;
    return 1;
}

#define APPEND(line, words) append_bytes(line, words, sizeof(words) - 1)

/* Whether a byte has to be escaped: what `json.encoder.encode_basestring_ascii` leaves as it is has a 0. */
static const char ESCAPED[256] = {
    [0 ... 31] = 1, ['"'] = 1, ['\\'] = 1, [127 ... 255] = 1,
};

/* Append a text that stands in JSON as it is; false where it does not, or does not fit. */
static int
append_plain(line_space *line, PyObject *text)
{
    if (!is_narrow(text)) {
        return 0;
    }
    const Py_UCS1 *data = PyUnicode_1BYTE_DATA(text);
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    char found = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        found |= ESCAPED[data[i]];
    }
    return !found && append_bytes(line, (const char *)data, (size_t)size);
}

/* Append a text with quotes around it, or null for NULL. */
static int
append_quoted(line_space *line, PyObject *text)
{
    return text == NULL ? APPEND(line, "null")
                        : APPEND(line, "\"") && append_plain(line, text) && APPEND(line, "\"");
}

/* Append a number with this many digits at the least. */
static int
append_digits(line_space *line, unsigned long long number, int least)
{
    char digits[24];
    char *place = digits + sizeof(digits);
    do {
        *--place = (char)('0' + number % 10);
        number /= 10;
    } while (--least > 0 || number);
    return append_bytes(line, place, (size_t)(digits + sizeof(digits) - place));
}

static int
append_number(line_space *line, long long number)
{
    return number < 0 ? APPEND(line, "-") && append_digits(line, 0ULL - (unsigned long long)number, 1)
                      : append_digits(line, (unsigned long long)number, 1);
}

/* What is measured with a clock: to write that as whole microseconds needs no text of Python's. */
#define MOST_MEASURED_SECONDS 1e6

/* So near to the middle between two microseconds, a product does not tell to which of them a time is rounded. */
#define NEAR_MIDDLE 1e-3

/* Append seconds with six decimals; false with an error. The C library's own way follows the locale. */
static int
append_seconds(line_space *line, double seconds)
{
    double exact = seconds * 1e6;
    if (seconds >= 0.0 && seconds < MOST_MEASURED_SECONDS && fabs(exact - floor(exact) - 0.5) > NEAR_MIDDLE) {
        unsigned long long microseconds = (unsigned long long)llrint(exact);
        return append_digits(line, microseconds / 1000000, 1) && APPEND(line, ".")
            && append_digits(line, microseconds % 1000000, 6);
    }
    char *digits = PyOS_double_to_string(seconds, 'f', 6, 0, NULL);
    if (digits == NULL) {
        return 0;
    }
    int done = append_bytes(line, digits, strlen(digits));
    PyMem_Free(digits);
    return done;
}

/* The var, or NULL where there is none or an empty one. */
static PyObject *
filled_var(const module_state *state, PyObject *vars, int which)
{
    PyObject *text = var_of(state, vars, which);
    return text == NULL || (is_narrow(text) && !PyUnicode_GET_LENGTH(text)) ? NULL : text;
}

/* Append what is told of a request; false where it is not plain. */
static int
append_request(line_space *line, const module_state *state, PyObject *vars)
{
    PyObject *script = var_of(state, vars, VAR_SCRIPT_NAME);
    PyObject *path = var_of(state, vars, VAR_PATH_INFO);
    PyObject *method = var_of(state, vars, VAR_REQUEST_METHOD);
    PyObject *protocol = var_of(state, vars, VAR_SERVER_PROTOCOL);
    return script != NULL && path != NULL && method != NULL && protocol != NULL
        && APPEND(line, "\"client\": ") && append_quoted(line, filled_var(state, vars, VAR_REMOTE_ADDR))
        && APPEND(line, ", \"user\": ") && append_quoted(line, filled_var(state, vars, VAR_REMOTE_USER))
        && APPEND(line, ", \"method\": ") && append_quoted(line, method)
        && APPEND(line, ", \"path\": \"") && append_plain(line, script) && append_plain(line, path)
        && APPEND(line, "\", \"protocol\": ") && append_quoted(line, protocol);
}

/* Append the header Referer without its query, which may hold tokens. */
static int
append_referer(line_space *line, PyObject *referer)
{
    if (referer == NULL) {
        return APPEND(line, "null");
    }
    char *start = line->place + 1;
    if (!append_quoted(line, referer)) {
        return 0;
    }
    char *query = memchr(start, '?', (size_t)(line->place - start));
    if (query != NULL) {
        line->place = query;
        return APPEND(line, "\"");
    }
    return 1;
}

/* What a line tells beside the vars. */
typedef struct {
    PyObject *now;     /* a text */
    Py_ssize_t status;
    Py_ssize_t body_bytes;
    int is_complete;
    double queue_seconds;
    double seconds;
    Py_ssize_t worker;
    PyObject *id;      /* a text */
} access_facts;

/* Append a line, without its end; false where a text needs an escape, where the line is too long, or with an error. */
static int
append_line(line_space *line, const module_state *state, PyObject *vars, const access_facts *told)
{
    return APPEND(line, "{\"event\": \"access\", \"timestamp\": ") && append_quoted(line, told->now)
        && APPEND(line, ", ") && append_request(line, state, vars)
        && APPEND(line, ", \"status\": ") && append_number(line, told->status)
        && APPEND(line, ", \"bytes\": ") && append_number(line, told->body_bytes)
        && (told->is_complete ? APPEND(line, ", \"complete\": true") : APPEND(line, ", \"complete\": false"))
        && APPEND(line, ", \"referer\": ") && append_referer(line, var_of(state, vars, VAR_HTTP_REFERER))
        && APPEND(line, ", \"user_agent\": ") && append_quoted(line, var_of(state, vars, VAR_HTTP_USER_AGENT))
        && APPEND(line, ", \"queue_seconds\": ") && append_seconds(line, told->queue_seconds)
        && APPEND(line, ", \"application_seconds\": ") && append_seconds(line, told->seconds)
        && APPEND(line, ", \"total_seconds\": ") && append_seconds(line, told->queue_seconds + told->seconds)
        && APPEND(line, ", \"worker\": ") && append_number(line, told->worker)
        && APPEND(line, ", \"request_id\": ") && append_quoted(line, told->id) && APPEND(line, "}");
}

PyDoc_STRVAR(access_line_doc,
"access_line(vars, now, status, body_bytes, complete, queue_seconds, seconds, worker, request_id, /)\n--\n\n"
"Make a line of the access log, without its end; None where a text needs an escape, a number\n"
"is too large for C, or the line would be too long.");

static PyObject *
access_line(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    char text[MAX_ACCESS_LINE_BYTES];
    line_space line = {text, text + sizeof(text)};
    access_facts told = {0};
    if (!check_count("access_line", count, 9)) {
        return NULL;
    }
    if (!as_size(args[2], &told.status) || !as_size(args[3], &told.body_bytes) || !as_size(args[7], &told.worker)) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            Py_RETURN_NONE;
        }
        return NULL;
    }
    told.now = args[1];
    told.is_complete = args[4] == Py_True;
    told.queue_seconds = PyFloat_AsDouble(args[5]);
    told.seconds = PyFloat_AsDouble(args[6]);
    told.id = args[8];
    if (PyErr_Occurred()) {
        return NULL;
    }
    int done = PyDict_CheckExact(args[0]) && append_line(&line, state_of(module), args[0], &told);
    if (PyErr_Occurred()) {
        return NULL;
    }
    return done ? PyUnicode_FromStringAndSize(text, line.place - text) : Py_NewRef(Py_None);
}

/* Write what can be written without a wait; -1 with errno. */
static ssize_t
write_without_wait(int fd, const char *data, size_t size)
{
    struct iovec piece = {(void *)data, size};
    ssize_t written;
    do {
        /* -1 stands for the file's own position; a pipe has none. */
        written = pwritev2(fd, &piece, 1, -1, RWF_NOWAIT);
    } while (written < 0 && errno == EINTR);
    return written;
}

PyDoc_STRVAR(write_at_once_doc,
"write_at_once(descriptor, data, /)\n--\n\n"
"Write what can be written without a wait (RWF_NOWAIT of pwritev2(2)), and keep the interpreter's lock: to let it go costs\n"
"more than the write. Gives the number of bytes.\n\n"
"Raises OSError where the reader is gone, nothing can be written now, or the kind of file does not know that flag.");

static PyObject *
write_at_once(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    Py_buffer data;
    if (!check_count("write_at_once", count, 2) || !as_int(args[0], &fd)
        || PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
    {
        return NULL;
    }
    ssize_t written = write_without_wait(fd, data.buf, (size_t)data.len);
    int failure = errno;
    PyBuffer_Release(&data);
    if (written < 0) {
        errno = failure;
        return raise_errno();
    }
    return PyLong_FromSsize_t(written);
}
