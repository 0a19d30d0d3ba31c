/* The head of an answer, as `protocol.response_headers` has it. */

/* What a header's name means, as in `protocol.response_headers`. */
#define KIND_PLAIN 0
#define KIND_CONTENT_LENGTH 1
#define KIND_HOP_BY_HOP 2
#define KIND_CONTENT_TYPE 3
#define KIND_ACCEL_BUFFERING 4
#define KIND_ACCEL_EXPIRES 5

/* Of an answer, headers that are encoded here at the most: what is known of them is on the stack. */
#define MAX_HEADERS 64

/* A header that is to be sent; all borrowed. */
typedef struct {
    const char *name;
    Py_ssize_t name_size;
    const char *value;
    Py_ssize_t value_size;
} header_line;

/* What is found out of a head; nothing in it is owned. */
typedef struct {
    header_line lines[MAX_HEADERS];
    Py_ssize_t count;
    Py_ssize_t size;         /* of all lines, with their ends */
    long long promised;      /* Content-Length, or -1 */
    long stream_kind;        /* of the last Content-Type */
    int is_without_length;   /* the status is 204: Python leaves its Content-Length out */
    int sets_buffering;
    int sets_expires;
} head_plan;

/* Begin a plan, of which nothing is known yet. */
static void
begin_plan(head_plan *plan, int is_without_length)
{
    plan->count = plan->size = 0;
    plan->promised = -1;
    plan->stream_kind = 0;
    plan->is_without_length = is_without_length;
    plan->sets_buffering = plan->sets_expires = 0;
}

/* Whether bytes have a character that no header may have; a tab may be. */
static int
has_control(const char *data, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return 1;
        }
    }
    return 0;
}

/* What a memo of Python's knows of some bytes; -1 where it knows nothing of them, or with an error. */
static long
look_up(PyObject *known_kinds, PyObject *key)
{
    PyObject *found = look_up_item(known_kinds, key);
    long known = found == NULL ? -1 : PyLong_AsLong(found);
    Py_XDECREF(found);
    return known;
}

/* Take note of what a header of this kind says; `line` has the characters of its value. 1 where it is to be sent,
   0 where it is left out, -1: not mine. */
static int
note_header(head_plan *plan, long kind, PyObject *value, const header_line *line, PyObject *stream_kinds)
{
    switch (kind) {
    case KIND_PLAIN:
        return 1;
    case KIND_HOP_BY_HOP:
        return 0;
    case KIND_CONTENT_LENGTH:
        if (plan->promised >= 0 || plan->is_without_length) {
            return -1;
        }
        plan->promised = number_of((const Py_UCS1 *)line->value, line->value_size, MAX_LENGTH_DIGITS);
        return plan->promised < 0 ? -1 : 1;
    case KIND_CONTENT_TYPE:
        plan->stream_kind = look_up(stream_kinds, value);
        return plan->stream_kind < 0 ? -1 : 1;
    case KIND_ACCEL_BUFFERING:
        plan->sets_buffering = 1;
        return 1;
    case KIND_ACCEL_EXPIRES:
        plan->sets_expires = 1;
        return 1;
    default:
        return -1;
    }
}

/* Plan one header. 1, or 0: not mine, or with an error. */
static int
plan_header(head_plan *plan, PyObject *item, PyObject *kinds, PyObject *stream_kinds)
{
    PyObject *name;
    PyObject *value;
    if (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) == 2) {
        name = PyTuple_GET_ITEM(item, 0);
        value = PyTuple_GET_ITEM(item, 1);
    }
#ifndef Py_GIL_DISABLED
    /* Without the interpreter's lock, another thread may change such a pair meanwhile: it is not mine. */
    else if (PyList_CheckExact(item) && PyList_GET_SIZE(item) == 2) {
        name = PyList_GET_ITEM(item, 0);
        value = PyList_GET_ITEM(item, 1);
    }
#endif
    else {
        return 0;
    }
    if (!PyBytes_CheckExact(name) || !PyBytes_CheckExact(value)) {
        return 0;
    }
    header_line line = {
        PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value),
    };
    long kind = look_up(kinds, name);
    int is_sent = kind < 0 ? -1 : note_header(plan, kind, value, &line, stream_kinds);
    if (is_sent <= 0) {
        return is_sent == 0;
    }
    if (plan->count == MAX_HEADERS || has_control(line.value, line.value_size)) {
        return 0;
    }
    plan->lines[plan->count++] = line;
    plan->size += 4 + line.name_size + line.value_size;
    return 1;
}

/* The headers as nobody changes them while they are looked at: a new reference, or NULL with an error. Whoever has it keeps
   it as long as a plan of it is in use, since the plan borrows from it. */
static inline PyObject *
hold_headers(PyObject *headers)
{
#ifdef Py_GIL_DISABLED
    if (PyList_CheckExact(headers)) {
        return PyList_AsTuple(headers);
    }
#endif
    return Py_NewRef(headers);
}

/* Plan all headers of a list or a tuple, which `hold_headers` has given. 1, or 0: not mine, or with an error. */
static int
plan_headers(head_plan *plan, PyObject *headers, PyObject *kinds, PyObject *stream_kinds)
{
    int is_list = PyList_CheckExact(headers);
    if (!is_list && !PyTuple_CheckExact(headers)) {
        return 0;
    }
    Py_ssize_t count = is_list ? PyList_GET_SIZE(headers) : PyTuple_GET_SIZE(headers);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = is_list ? PyList_GET_ITEM(headers, i) : PyTuple_GET_ITEM(headers, i);
        if (!plan_header(plan, item, kinds, stream_kinds)) {
            return 0;
        }
    }
    return 1;
}

/* Plan the header of `--request-id-header`, where `name` is bytes and not None, unless the application has set it itself. `*id`
   is a new reference to what the plan has borrowed of, or NULL. 1, or 0: not mine, or with an error. */
static int
plan_id(const module_state *state, head_plan *plan, PyObject *name, PyObject *request, PyObject **id)
{
    *id = NULL;
    if (name == Py_None) {
        return 1;
    }
    const char *text = PyBytes_AS_STRING(name);
    Py_ssize_t size = PyBytes_GET_SIZE(name);
    for (Py_ssize_t i = 0; i < plan->count; i++) {
        if (plan->lines[i].name_size == size && !strncasecmp(plan->lines[i].name, text, size)) {
            return 1;
        }
    }
    PyObject *vars = PyObject_GetAttr(request, state->texts[TEXT_VARS]);
    *id = vars == NULL || !PyDict_CheckExact(vars) ? NULL : look_up_item(vars, state->texts[TEXT_REQUEST_ID]);
    Py_XDECREF(vars);
    if (*id == NULL || !is_narrow(*id) || plan->count == MAX_HEADERS) {
        return 0;
    }
    header_line line = {text, size, (const char *)PyUnicode_1BYTE_DATA(*id), PyUnicode_GET_LENGTH(*id)};
    if (has_control(line.value, line.value_size)) {
        return 0;
    }
    plan->lines[plan->count++] = line;
    plan->size += 4 + line.name_size + line.value_size;
    return 1;
}

/* Copy bytes, and give the place behind them. */
static inline char *
put(char *place, const char *data, Py_ssize_t size)
{
    memcpy(place, data, size);
    return place + size;
}

/* Write the head that was planned; a new reference, or NULL with an error. */
static PyObject *
write_head(const head_plan *plan, const char *status, Py_ssize_t status_size)
{
    static const char version[] = "HTTP/1.1 ";
    Py_ssize_t version_size = sizeof(version) - 1;
    PyObject *head = PyBytes_FromStringAndSize(NULL, version_size + status_size + plan->size);
    if (head == NULL) {
        return NULL;
    }
    char *place = put(PyBytes_AS_STRING(head), version, version_size);
    place = put(place, status, status_size);
    for (Py_ssize_t i = 0; i < plan->count; i++) {
        const header_line *line = &plan->lines[i];
        place = put(place, "\r\n", 2);
        place = put(place, line->name, line->name_size);
        place = put(place, ": ", 2);
        place = put(place, line->value, line->value_size);
    }
    return head;
}

PyDoc_STRVAR(encode_head_doc,
"encode_head(line, headers, kinds, stream_kinds, /)\n--\n\n"
"Encode the head of an answer, as `uwsgibridge.protocol.response_headers.encode_head`.\n\n"
"Gives the head without its end, the Content-Length or None, the kind of stream, and whether there is an\n"
"X-Accel-Buffering and an X-Accel-Expires. None where a name or a type is not remembered, a value is to be\n"
"refused or changed, or the headers are no list of pairs of bytes.");

static PyObject *
encode_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_CheckExact(args[0]) || !PyDict_CheckExact(args[2])
        || !PyDict_CheckExact(args[3]))
    {
        PyErr_SetString(PyExc_TypeError, "encode_head takes bytes, headers and two dicts");
        return NULL;
    }
    const char *status = PyBytes_AS_STRING(args[0]);
    Py_ssize_t status_size = PyBytes_GET_SIZE(args[0]);
    head_plan plan;
    begin_plan(&plan, status_size >= 3 && !memcmp(status, "204", 3));
    PyObject *headers = hold_headers(args[1]);
    if (headers == NULL) {
        return NULL;
    }
    if (has_control(status, status_size) || !plan_headers(&plan, headers, args[2], args[3])) {
        Py_DECREF(headers);
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyObject *head = write_head(&plan, status, status_size);
    Py_DECREF(headers);
    PyObject *promised = plan.promised < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(plan.promised);
    if (head == NULL || promised == NULL) {
        Py_XDECREF(head);
        Py_XDECREF(promised);
        return NULL;
    }
    PyObject *stream_kind = PyLong_FromLong(plan.stream_kind);
    PyObject *result = NULL;
    if (stream_kind != NULL) {
        result = PyTuple_Pack(5, head, promised, stream_kind, plan.sets_buffering ? Py_True : Py_False,
                              plan.sets_expires ? Py_True : Py_False);
    }
    Py_DECREF(head);
    Py_DECREF(promised);
    Py_XDECREF(stream_kind);
    return result;
}

/* The pair of bytes for a pair of narrow texts; a new reference, or NULL: not mine, or with an error. */
static PyObject *
encode_pair(PyObject *item)
{
    if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 2
        || !is_narrow(PyTuple_GET_ITEM(item, 0)) || !is_narrow(PyTuple_GET_ITEM(item, 1)))
    {
        return NULL;
    }
    PyObject *name = encode_narrow(PyTuple_GET_ITEM(item, 0));
    PyObject *value = encode_narrow(PyTuple_GET_ITEM(item, 1));
    PyObject *pair = name != NULL && value != NULL ? PyTuple_Pack(2, name, value) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return pair;
}

PyDoc_STRVAR(encode_pairs_doc,
"encode_pairs(headers, /)\n--\n\n"
"Encode the headers of a WSGI application as latin-1.\n\n"
"None where they are not a list of pairs of str, or have other characters.");

static PyObject *
encode_pairs(PyObject *Py_UNUSED(module), PyObject *headers)
{
    if (!PyList_CheckExact(headers)) {
        Py_RETURN_NONE;
    }
    PyObject *pairs = PyList_New(0);
    if (pairs == NULL) {
        return NULL;
    }
    /* The list is the application's: its size is asked for each time. */
    PyObject *item;
    for (Py_ssize_t i = 0; (item = item_of_list(headers, i)) != NULL; i++) {
        PyObject *pair = encode_pair(item);
        Py_DECREF(item);
        if (pair == NULL || PyList_Append(pairs, pair) < 0) {
            Py_XDECREF(pair);
            Py_DECREF(pairs);
            if (PyErr_Occurred()) {
                return NULL;
            }
            Py_RETURN_NONE;
        }
        Py_DECREF(pair);
    }
    return pairs;
}
