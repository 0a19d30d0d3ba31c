/* The accelerator: what each request needs, for the plain case alone.

   Each rule, each text and each refusal of uwsgibridge stands in Python, once. A function here does the
   plain case, and gives None ("not mine") for all else, before it has changed or taken anything; its
   caller in Python then does the whole work from the start. So a function here may be narrower than the
   one in Python, and never wider or different. Three functions give something else: `receive_request` a
   number, where it has received what is no whole plain request; `take_and_close` False for a connection
   that is not its own; and `accept` takes each connection or raises.

   Rules for this file:

   - public C API only, Python 3.11 to 3.15, Linux;
   - the objects that are looked at are exactly str, bytes, dict, list and tuple: a subclass may run code
     of the application, and is "not mine". The exception is `header_names` of `http_scope`: it is the
     bridge's own, and its `__missing__` runs Python;
   - calls that can't block keep the interpreter's lock. To let it go costs more than the call, and with
     several threads each one is a hand-over to another thread;
   - the texts that are kept between two requests belong to the module, and the interpreter's lock guards
     them. A build without that lock leaves this file out. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE /* accept4 */
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef Py_GIL_DISABLED
#error "what is kept between two requests is not safe without the interpreter's lock"
#endif

/* Of `uwsgibridge.fast`: another number there means that this was built from another state of the source. */
#define INTERFACE 3

/* Of the source that this was built from; given by who compiles. */
#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

#define HEADER_BYTES 4
#define MODIFIER_REQUEST 0
#define MODIFIER_STRIP_SCRIPT_NAME 30
#define MODIFIER_PING 100

/* Of the previous packet, so many vars are kept, each with so many bytes of its name and of its value. */
#define KEPT_VARS 64
#define KEPT_NAME_BYTES 64
#define KEPT_VALUE_BYTES 256

/* As in `protocol.request` and `protocol.response_headers`. */
#define MAX_LENGTH_DIGITS 18
#define MAX_PORT_DIGITS 5

/* What a header's name means, as in `protocol.response_headers`. */
#define KIND_PLAIN 0
#define KIND_CONTENT_LENGTH 1
#define KIND_HOP_BY_HOP 2
#define KIND_CONTENT_TYPE 3
#define KIND_ACCEL_BUFFERING 4
#define KIND_ACCEL_EXPIRES 5

/* Of an answer, headers that are encoded here at the most: what is known of them is on the stack. */
#define MAX_HEADERS 64

/* Up to here, the kernel copies a buffer in less time than a hand-over of the interpreter's lock takes. */
#define MAX_COPY_BYTES 65536


/* -- What the module keeps ------------------------------------------------------------------------------- */

/* The names of vars that mean something here. */
enum {
    VAR_CONTENT_LENGTH, VAR_CONTENT_TYPE, VAR_HTTPS, VAR_HTTP_CONTENT_LENGTH, VAR_HTTP_CONTENT_TYPE,
    VAR_HTTP_PROXY, VAR_HTTP_TRANSFER_ENCODING, VAR_PATH_INFO, VAR_QUERY_STRING, VAR_REMOTE_ADDR,
    VAR_REMOTE_PORT, VAR_REQUEST_METHOD, VAR_REQUEST_SCHEME, VAR_REQUEST_URI, VAR_SCRIPT_NAME,
    VAR_SERVER_NAME, VAR_SERVER_PORT, VAR_SERVER_PROTOCOL, VAR_SERVER_SOFTWARE, VAR_UWSGI_SCHEME,
    VARS
};

static const char *const VAR_NAMES[VARS] = {
    "CONTENT_LENGTH", "CONTENT_TYPE", "HTTPS", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE",
    "HTTP_PROXY", "HTTP_TRANSFER_ENCODING", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR",
    "REMOTE_PORT", "REQUEST_METHOD", "REQUEST_SCHEME", "REQUEST_URI", "SCRIPT_NAME",
    "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "UWSGI_SCHEME",
};

/* The keys of an ASGI scope, the texts that are values in it, and names of attributes. */
enum {
    TEXT_ASGI, TEXT_CLIENT, TEXT_EMPTY, TEXT_HEADERS, TEXT_HTTP, TEXT_HTTPS, TEXT_HTTP_VERSION,
    TEXT_METHOD, TEXT_PATH, TEXT_QUERY_STRING, TEXT_RAW_PATH, TEXT_ROOT_PATH, TEXT_SCHEME, TEXT_SERVER,
    TEXT_TYPE, TEXT_URL_SCHEME, TEXT_VARS, TEXT_LENGTH,
    TEXTS
};

static const char *const TEXT_WORDS[TEXTS] = {
    "asgi", "client", "", "headers", "http", "https", "http_version",
    "method", "path", "query_string", "raw_path", "root_path", "scheme", "server",
    "type", "wsgi.url_scheme", "vars", "content_length",
};

/* A var at one place of the previous packet. The next packet has mostly the same one at that place. */
typedef struct {
    PyObject *name;   /* str, or NULL */
    PyObject *value;  /* str, or NULL */
} kept_var;

typedef struct {
    PyObject *vars[VARS];
    PyObject *texts[TEXTS];
    PyObject *content_type;    /* bytes */
    PyObject *content_length;  /* bytes */
    kept_var kept[KEPT_VARS];
    PyTypeObject *descriptor_type;
} module_state;

static inline module_state *
state_of(PyObject *module)
{
    return (module_state *)PyModule_GetState(module);
}


/* -- Texts ----------------------------------------------------------------------------------------------- */

/* Whether a text has one byte for each character; all texts of a packet do. */
static inline int
is_narrow(PyObject *text)
{
    return PyUnicode_CheckExact(text) && PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND;
}

/* Whether a narrow text is this word. */
static inline int
is_word(PyObject *text, const char *word, Py_ssize_t size)
{
    return PyUnicode_GET_LENGTH(text) == size && !memcmp(PyUnicode_1BYTE_DATA(text), word, size);
}

/* The bytes of a narrow text; a new reference. */
static inline PyObject *
encode_narrow(PyObject *text)
{
    return PyBytes_FromStringAndSize((const char *)PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text));
}

/* The number that digits make, or -1 where there are none, too many, or something else. */
static long long
number_of(const Py_UCS1 *digits, Py_ssize_t count, Py_ssize_t most)
{
    if (count < 1 || count > most) {
        return -1;
    }
    long long number = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return -1;
        }
        number = number * 10 + (digits[i] - '0');
    }
    return number;
}

/* A text of these bytes, as latin-1: a new reference.

   `kept` is what was at this place in the previous packet. The same text is given again where the bytes are
   the same, which also saves its hash; else the new one takes its place, unless it is large. */
static PyObject *
text_at(PyObject **kept, const char *data, Py_ssize_t size, Py_ssize_t most_kept)
{
    PyObject *text = *kept;
    if (text != NULL && is_word(text, data, size)) {
        return Py_NewRef(text);
    }
    text = PyUnicode_DecodeLatin1(data, size, NULL);
    if (text != NULL && size <= most_kept) {
        Py_XSETREF(*kept, Py_NewRef(text));
    }
    return text;
}


/* -- Packets --------------------------------------------------------------------------------------------- */

/* The u16le at a place. */
static inline Py_ssize_t
size_at(const unsigned char *place)
{
    return place[0] | place[1] << 8;
}

/* Read the vars between `place` and `end` into `vars`.

   Gives 1 where that went well, 0 where they are not mine, -1 with an error. Nothing here runs Python code,
   or lets another thread run: else what is kept could change meanwhile. */
static int
read_vars(module_state *state, const unsigned char *place, const unsigned char *end, Py_ssize_t most,
          PyObject *vars)
{
    Py_ssize_t count = 0;
    while (place < end) {
        if (end - place < 2) {
            return 0;
        }
        Py_ssize_t name_size = size_at(place);
        place += 2;
        if (!name_size || end - place < name_size + 2 || count == most) {
            return 0;
        }
        const char *name_data = (const char *)place;
        place += name_size;
        Py_ssize_t value_size = size_at(place);
        place += 2;
        if (end - place < value_size) {
            return 0;
        }
        kept_var unkept = {NULL, NULL};
        kept_var *kept = count < KEPT_VARS ? &state->kept[count] : &unkept;
        PyObject *name = text_at(&kept->name, name_data, name_size, count < KEPT_VARS ? KEPT_NAME_BYTES : -1);
        if (name == NULL) {
            return -1;
        }
        PyObject *value = text_at(&kept->value, (const char *)place, value_size,
                                  count < KEPT_VARS ? KEPT_VALUE_BYTES : -1);
        int failed = value == NULL || PyDict_SetItem(vars, name, value) < 0;
        Py_DECREF(name);
        Py_XDECREF(value);
        if (failed) {
            return -1;
        }
        place += value_size;
        count++;
    }
    return PyDict_GET_SIZE(vars) == count;  /* else one came twice */
}

/* Make a named tuple of `type` for a packet; steals nothing. */
static PyObject *
make_packet(PyTypeObject *type, int modifier1, PyObject *vars, Py_ssize_t size)
{
    PyObject *modifier = PyLong_FromLong(modifier1);
    PyObject *size_bytes = PyLong_FromSsize_t(size);
    PyObject *packet = modifier != NULL && size_bytes != NULL ? type->tp_alloc(type, 3) : NULL;
    if (packet == NULL) {
        Py_XDECREF(modifier);
        Py_XDECREF(size_bytes);
        return NULL;
    }
    PyTuple_SET_ITEM(packet, 0, modifier);
    PyTuple_SET_ITEM(packet, 1, Py_NewRef(vars));
    PyTuple_SET_ITEM(packet, 2, size_bytes);
    return packet;
}

/* Find the vars of a packet at the start of `data`. Gives a new dict, and in `*end` where the packet ends;
   NULL where that is not mine, or with an error. */
static PyObject *
find_vars(module_state *state, const unsigned char *data, Py_ssize_t have, Py_ssize_t max_vars_bytes,
          Py_ssize_t max_vars, Py_ssize_t *end)
{
    if (have < HEADER_BYTES
        || (data[0] != MODIFIER_REQUEST && data[0] != MODIFIER_STRIP_SCRIPT_NAME && data[0] != MODIFIER_PING))
    {
        return NULL;
    }
    Py_ssize_t size = size_at(data + 1);
    if (size > max_vars_bytes || have - HEADER_BYTES < size) {
        return NULL;
    }
    PyObject *vars = PyDict_New();
    if (vars != NULL
        && read_vars(state, data + HEADER_BYTES, data + HEADER_BYTES + size, max_vars, vars) <= 0)
    {
        Py_CLEAR(vars);
    }
    *end = HEADER_BYTES + size;
    return vars;
}

PyDoc_STRVAR(parse_packet_doc,
"parse_packet(buffer, max_vars_bytes, max_vars, packet_type, /)\n--\n\n"
"Parse the packet at the start of a buffer, as `uwsgibridge.protocol.packet.parse_packet`.\n\n"
"None where it is not whole, repeats a var, or is to be refused.");

static PyObject *
parse_packet(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyType_Check(args[3])
        || !PyType_IsSubtype((PyTypeObject *)args[3], &PyTuple_Type))
    {
        PyErr_SetString(PyExc_TypeError, "parse_packet takes a buffer, two limits and a class of tuples");
        return NULL;
    }
    Py_ssize_t max_vars_bytes = PyLong_AsSsize_t(args[1]);
    Py_ssize_t max_vars = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Py_ssize_t end;
    PyObject *vars = find_vars(state_of(module), view.buf, view.len, max_vars_bytes, max_vars, &end);
    PyObject *packet = NULL;
    if (vars != NULL) {
        packet = make_packet((PyTypeObject *)args[3], *(const unsigned char *)view.buf, vars, end);
        Py_DECREF(vars);
    }
    else if (!PyErr_Occurred()) {
        packet = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&view);
    return packet;
}


/* -- Requests -------------------------------------------------------------------------------------------- */

/* The value of a var, borrowed; NULL where there is none, or with an error. */
static inline PyObject *
var_of(const module_state *state, PyObject *vars, int which)
{
    return PyDict_GetItemWithError(vars, state->vars[which]);
}

/* Whether a var is there and has a text of at least so many characters. */
static inline int
has_text(const module_state *state, PyObject *vars, int which, Py_ssize_t least)
{
    PyObject *value = var_of(state, vars, which);
    return value != NULL && is_narrow(value) && PyUnicode_GET_LENGTH(value) >= least;
}

/* The length of the body: -1 where it is not plain, or over a limit that is not 0. */
static long long
body_length(const module_state *state, PyObject *vars, long long max_body_bytes)
{
    PyObject *text = var_of(state, vars, VAR_CONTENT_LENGTH);
    if (text == NULL) {
        return 0;
    }
    if (!is_narrow(text)) {
        return -1;
    }
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    if (!size) {
        return 0;
    }
    long long length = number_of(PyUnicode_1BYTE_DATA(text), size, MAX_LENGTH_DIGITS);
    return max_body_bytes > 0 && length > max_body_bytes ? -1 : length;
}

/* Whether these are the vars of a request for which no default is needed but an empty SCRIPT_NAME. */
static int
are_plain(const module_state *state, PyObject *vars)
{
    PyObject *script_name = var_of(state, vars, VAR_SCRIPT_NAME);
    if (script_name != NULL && !(is_narrow(script_name) && PyUnicode_GET_LENGTH(script_name) == 0)) {
        return 0;
    }
    return has_text(state, vars, VAR_REQUEST_METHOD, 1)
        && has_text(state, vars, VAR_QUERY_STRING, 0)
        && has_text(state, vars, VAR_SERVER_PROTOCOL, 0)
        && has_text(state, vars, VAR_PATH_INFO, 0)
        && has_text(state, vars, VAR_SERVER_NAME, 1)
        && has_text(state, vars, VAR_SERVER_PORT, 1);
}

/* Take a var out, if it is there; -1 with an error. */
static int
drop_var(const module_state *state, PyObject *vars, int which)
{
    PyObject *name = state->vars[which];
    int found = PyDict_Contains(vars, name);
    return found > 0 ? PyDict_DelItem(vars, name) : found;
}

/* Make the vars of a packet those of a request. Gives the length of its body, -1 with nothing changed where
   that is not mine, -2 with an error. */
static long long
settle(const module_state *state, PyObject *vars, long long max_body_bytes)
{
    static const int dropped[] = {
        VAR_HTTP_PROXY, VAR_HTTP_CONTENT_TYPE, VAR_HTTP_CONTENT_LENGTH, VAR_HTTP_TRANSFER_ENCODING,
    };
    long long length = are_plain(state, vars) ? body_length(state, vars, max_body_bytes) : -1;
    if (length < 0) {
        return PyErr_Occurred() ? -2 : -1;
    }
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        if (drop_var(state, vars, dropped[i]) < 0) {
            return -2;
        }
    }
    if (PyDict_SetDefault(vars, state->vars[VAR_SCRIPT_NAME], state->texts[TEXT_EMPTY]) == NULL) {
        return -2;
    }
    return length;
}

PyDoc_STRVAR(settle_vars_doc,
"settle_vars(vars, max_body_bytes, /)\n--\n\n"
"Make the vars of a packet those of a `uwsgibridge.protocol.request.Request`, in place.\n\n"
"Gives the length of its body; None, with nothing changed, where a default is needed, the application is\n"
"mounted by the frontend, or the length is to be refused.");

static PyObject *
settle_vars(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyDict_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "settle_vars takes a dict and a limit");
        return NULL;
    }
    long long max_body_bytes = PyLong_AsLongLong(args[1]);
    if (max_body_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    long long length = settle(state_of(module), args[0], max_body_bytes);
    if (length == -1) {
        Py_RETURN_NONE;
    }
    return length < 0 ? NULL : PyLong_FromLongLong(length);
}

/* Make a request of `type`, which has two slots, around settled vars; a new reference, or NULL with an error. */
static PyObject *
make_request(const module_state *state, PyTypeObject *type, PyObject *vars, long long length)
{
    PyObject *content_length = PyLong_FromLongLong(length);
    PyObject *request = content_length == NULL ? NULL : type->tp_alloc(type, 0);
    if (request != NULL
        && (PyObject_SetAttr(request, state->texts[TEXT_VARS], vars) < 0
            || PyObject_SetAttr(request, state->texts[TEXT_LENGTH], content_length) < 0))
    {
        Py_CLEAR(request);
    }
    Py_XDECREF(content_length);
    return request;
}


/* -- The scope of ASGI ------------------------------------------------------------------------------------ */

/* The scheme of a plain request, borrowed; NULL where it is not mine. */
static PyObject *
plain_scheme(const module_state *state, PyObject *vars)
{
    if (var_of(state, vars, VAR_UWSGI_SCHEME) != NULL) {
        return NULL;
    }
    PyObject *https = var_of(state, vars, VAR_HTTPS);
    if (https != NULL) {
        if (!is_narrow(https)) {
            return NULL;
        }
        if (is_word(https, "on", 2)) {
            return state->texts[TEXT_HTTPS];
        }
        if (PyUnicode_GET_LENGTH(https)) {
            return NULL;
        }
    }
    PyObject *scheme = var_of(state, vars, VAR_REQUEST_SCHEME);
    if (scheme == NULL || !is_narrow(scheme)) {
        return NULL;
    }
    if (is_word(scheme, "http", 4)) {
        return state->texts[TEXT_HTTP];
    }
    return is_word(scheme, "https", 5) ? state->texts[TEXT_HTTPS] : NULL;
}

/* Whether a method is as ASGI wants it: A to Z alone. */
static int
is_upper_case(PyObject *method)
{
    const Py_UCS1 *data = PyUnicode_1BYTE_DATA(method);
    Py_ssize_t size = PyUnicode_GET_LENGTH(method);
    for (Py_ssize_t i = 0; i < size; i++) {
        if (data[i] < 'A' || data[i] > 'Z') {
            return 0;
        }
    }
    return 1;
}

/* The raw path of a request line's target; a new reference, or NULL: not mine, or with an error. */
static PyObject *
raw_path_of(PyObject *target)
{
    if (target == NULL || !is_narrow(target)) {
        return NULL;
    }
    const char *data = (const char *)PyUnicode_1BYTE_DATA(target);
    Py_ssize_t size = PyUnicode_GET_LENGTH(target);
    if (!size || data[0] != '/') {
        return NULL;
    }
    const char *query = memchr(data, '?', size);
    return PyBytes_FromStringAndSize(data, query != NULL ? query - data : size);
}

/* A pair of a text and the number that another text is; a new reference, or NULL: not mine, or with an error. */
static PyObject *
address_of(PyObject *host, PyObject *port)
{
    if (!is_narrow(host) || port == NULL || !is_narrow(port)) {
        return NULL;
    }
    long long number = number_of(PyUnicode_1BYTE_DATA(port), PyUnicode_GET_LENGTH(port), MAX_PORT_DIGITS);
    PyObject *second = number < 0 ? NULL : PyLong_FromLongLong(number);
    PyObject *pair = second == NULL ? NULL : PyTuple_Pack(2, host, second);
    Py_XDECREF(second);
    return pair;
}

/* The client's address; a new reference, or NULL: not mine, or with an error. */
static PyObject *
client_of(const module_state *state, PyObject *vars)
{
    PyObject *host = var_of(state, vars, VAR_REMOTE_ADDR);
    if (host == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    if (!is_narrow(host)) {
        return NULL;
    }
    if (PyUnicode_GET_LENGTH(host) == 0 || is_word(host, "unix:", 5)) {
        return Py_NewRef(Py_None);
    }
    return address_of(host, var_of(state, vars, VAR_REMOTE_PORT));
}

/* Append a header; steals nothing, and takes a `value` that is not narrow for not mine. 1, 0 or -1. */
static int
append_header(PyObject *headers, PyObject *name, PyObject *value)
{
    if (!is_narrow(value)) {
        return 0;
    }
    PyObject *encoded = encode_narrow(value);
    PyObject *pair = encoded == NULL ? NULL : PyTuple_Pack(2, name, encoded);
    Py_XDECREF(encoded);
    if (pair == NULL) {
        return -1;
    }
    int failed = PyList_Append(headers, pair);
    Py_DECREF(pair);
    return failed < 0 ? -1 : 1;
}

/* Append the header that a var of its own stands for, if it is there and not empty. 1, 0 or -1. */
static int
append_own(const module_state *state, PyObject *headers, PyObject *name, PyObject *vars, int which)
{
    PyObject *value = var_of(state, vars, which);
    if (value == NULL) {
        return PyErr_Occurred() ? -1 : 1;
    }
    if (!PyUnicode_CheckExact(value)) {
        return 0;
    }
    return PyUnicode_GET_LENGTH(value) ? append_header(headers, name, value) : 1;
}

/* The name of the header that a var stands for, None for a var that is none; a new reference.

   `names` remembers them, and its `__missing__` makes those that are new. */
static PyObject *
header_name(PyObject *names, PyObject *var)
{
    PyObject *name = PyDict_GetItemWithError(names, var);
    if (name != NULL) {
        return Py_NewRef(name);
    }
    return PyErr_Occurred() ? NULL : PyObject_GetItem(names, var);
}

/* Append all headers of a client. 1, 0 or -1. */
static int
append_headers(const module_state *state, PyObject *headers, PyObject *vars, PyObject *names)
{
    Py_ssize_t position = 0;
    PyObject *var;
    PyObject *value;
    while (PyDict_Next(vars, &position, &var, &value)) {
        /* To make a name that is new runs Python code, and so other threads. None of them knows these vars. */
        PyObject *name = header_name(names, var);
        if (name == NULL) {
            return -1;
        }
        int is_mine = name == Py_None ? 1 : append_header(headers, name, value);
        Py_DECREF(name);
        if (is_mine != 1) {
            return is_mine;
        }
    }
    int is_mine = append_own(state, headers, state->content_type, vars, VAR_CONTENT_TYPE);
    if (is_mine != 1) {
        return is_mine;
    }
    return append_own(state, headers, state->content_length, vars, VAR_CONTENT_LENGTH);
}

/* What a scope is made of; each a new reference, or NULL. */
typedef struct {
    PyObject *scheme;
    PyObject *version;
    PyObject *asgi;
    PyObject *raw_path;
    PyObject *query_string;
    PyObject *headers;
    PyObject *client;
    PyObject *server;
} scope_parts;

static void
clear_parts(scope_parts *parts)
{
    Py_CLEAR(parts->scheme);
    Py_CLEAR(parts->version);
    Py_CLEAR(parts->asgi);
    Py_CLEAR(parts->raw_path);
    Py_CLEAR(parts->query_string);
    Py_CLEAR(parts->headers);
    Py_CLEAR(parts->client);
    Py_CLEAR(parts->server);
}

/* Make the parts. 1, or 0: not mine, or with an error. `parts` is to be cleared in each case. */
static int
make_parts(const module_state *state, PyObject *const *args, scope_parts *parts)
{
    PyObject *vars = args[0];
    parts->scheme = Py_XNewRef(plain_scheme(state, vars));
    parts->version = Py_XNewRef(PyDict_GetItemWithError(args[2], var_of(state, vars, VAR_SERVER_PROTOCOL)));
    if (parts->scheme == NULL || parts->version == NULL) {
        return 0;
    }
    parts->raw_path = raw_path_of(var_of(state, vars, VAR_REQUEST_URI));
    parts->client = parts->raw_path == NULL ? NULL : client_of(state, vars);
    if (parts->client == NULL) {
        return 0;
    }
    parts->server = address_of(var_of(state, vars, VAR_SERVER_NAME), var_of(state, vars, VAR_SERVER_PORT));
    if (parts->server == NULL) {
        return 0;
    }
    parts->asgi = PyDict_Copy(args[3]);
    parts->query_string = encode_narrow(var_of(state, vars, VAR_QUERY_STRING));
    parts->headers = PyList_New(0);
    if (parts->asgi == NULL || parts->query_string == NULL || parts->headers == NULL) {
        return 0;
    }
    return append_headers(state, parts->headers, vars, args[1]) == 1;
}

/* Put the parts into a new dict; NULL with an error. */
static PyObject *
make_scope(const module_state *state, PyObject *vars, const scope_parts *parts)
{
    PyObject *const *texts = state->texts;
    PyObject *scope = PyDict_New();
    if (scope == NULL) {
        return NULL;
    }
    if (PyDict_SetItem(scope, texts[TEXT_TYPE], texts[TEXT_HTTP]) < 0
        || PyDict_SetItem(scope, texts[TEXT_ASGI], parts->asgi) < 0
        || PyDict_SetItem(scope, texts[TEXT_HTTP_VERSION], parts->version) < 0
        || PyDict_SetItem(scope, texts[TEXT_METHOD], var_of(state, vars, VAR_REQUEST_METHOD)) < 0
        || PyDict_SetItem(scope, texts[TEXT_SCHEME], parts->scheme) < 0
        || PyDict_SetItem(scope, texts[TEXT_PATH], var_of(state, vars, VAR_PATH_INFO)) < 0
        || PyDict_SetItem(scope, texts[TEXT_RAW_PATH], parts->raw_path) < 0
        || PyDict_SetItem(scope, texts[TEXT_QUERY_STRING], parts->query_string) < 0
        || PyDict_SetItem(scope, texts[TEXT_ROOT_PATH], texts[TEXT_EMPTY]) < 0
        || PyDict_SetItem(scope, texts[TEXT_HEADERS], parts->headers) < 0
        || PyDict_SetItem(scope, texts[TEXT_CLIENT], parts->client) < 0
        || PyDict_SetItem(scope, texts[TEXT_SERVER], parts->server) < 0)
    {
        Py_DECREF(scope);
        return NULL;
    }
    return scope;
}

/* Whether the vars have all that `make_parts` takes for granted, and a path that needs no decoding. */
static int
can_be_scope(const module_state *state, PyObject *vars)
{
    return are_plain(state, vars)
        && var_of(state, vars, VAR_SCRIPT_NAME) != NULL
        && is_upper_case(var_of(state, vars, VAR_REQUEST_METHOD))
        && PyUnicode_IS_ASCII(var_of(state, vars, VAR_PATH_INFO));
}

PyDoc_STRVAR(http_scope_doc,
"http_scope(vars, header_names, http_versions, asgi, /)\n--\n\n"
"Build what `uwsgibridge.protocol.request.Request.http_scope` does, from the vars of a request.\n\n"
"None where a text would have to be decoded or changed in its case.");

static PyObject *
http_scope(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyDict_CheckExact(args[0]) || !PyDict_Check(args[1]) || !PyDict_CheckExact(args[2])
        || !PyDict_CheckExact(args[3]))
    {
        PyErr_SetString(PyExc_TypeError, "http_scope takes four dicts");
        return NULL;
    }
    const module_state *state = state_of(module);
    PyObject *scope = NULL;
    if (can_be_scope(state, args[0])) {
        scope_parts parts = {0};
        if (make_parts(state, args, &parts)) {
            scope = make_scope(state, args[0], &parts);
        }
        clear_parts(&parts);
    }
    if (scope == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return scope;
}


/* -- The environ of WSGI ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(environ_doc,
"environ(vars, base, server_software, /)\n--\n\n"
"Build the environ of a WSGI application but for its input: the vars, what is the same in each environ, the\n"
"scheme, and SERVER_SOFTWARE where the frontend has sent none.\n\n"
"None where the scheme is not plain.");

static PyObject *
environ_of(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyDict_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "environ takes two dicts and a text");
        return NULL;
    }
    const module_state *state = state_of(module);
    PyObject *scheme = plain_scheme(state, args[0]);
    if (scheme == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyObject *environ = PyDict_Copy(args[0]);
    if (environ == NULL) {
        return NULL;
    }
    if (PyDict_Update(environ, args[1]) < 0
        || PyDict_SetItem(environ, state->texts[TEXT_URL_SCHEME], scheme) < 0
        || PyDict_SetDefault(environ, state->vars[VAR_SERVER_SOFTWARE], args[2]) == NULL)
    {
        Py_DECREF(environ);
        return NULL;
    }
    return environ;
}


/* -- The head of an answer --------------------------------------------------------------------------------- */

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
look_up(PyObject *memo, PyObject *key)
{
    PyObject *known = PyDict_GetItemWithError(memo, key);
    return known == NULL ? -1 : PyLong_AsLong(known);
}

/* Take note of what a header of this kind says. 1 where it is to be sent, 0 where it is left out, -1: not mine. */
static int
note_header(head_plan *plan, long kind, PyObject *value, PyObject *stream_kinds)
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
        plan->promised = number_of((const Py_UCS1 *)PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value),
                                   MAX_LENGTH_DIGITS);
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
    else if (PyList_CheckExact(item) && PyList_GET_SIZE(item) == 2) {
        name = PyList_GET_ITEM(item, 0);
        value = PyList_GET_ITEM(item, 1);
    }
    else {
        return 0;
    }
    if (!PyBytes_CheckExact(name) || !PyBytes_CheckExact(value)) {
        return 0;
    }
    long kind = look_up(kinds, name);
    int is_sent = kind < 0 ? -1 : note_header(plan, kind, value, stream_kinds);
    if (is_sent <= 0) {
        return is_sent == 0;
    }
    header_line line = {
        PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value),
    };
    if (plan->count == MAX_HEADERS || has_control(line.value, line.value_size)) {
        return 0;
    }
    plan->lines[plan->count++] = line;
    plan->size += 4 + line.name_size + line.value_size;
    return 1;
}

/* Plan all headers of a list or a tuple. 1, or 0: not mine, or with an error. */
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
    plan.count = plan.size = 0;
    plan.promised = -1;
    plan.stream_kind = 0;
    plan.is_without_length = status_size >= 3 && !memcmp(status, "204", 3);
    plan.sets_buffering = plan.sets_expires = 0;
    if (has_control(status, status_size) || !plan_headers(&plan, args[1], args[2], args[3])) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyObject *head = write_head(&plan, status, status_size);
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
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = encode_pair(PyList_GET_ITEM(headers, i));
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


/* -- Connections ------------------------------------------------------------------------------------------- */

/* An accepted socket: what `socket.SocketType` offers of it, and no more. Owns its descriptor. */
typedef struct {
    PyObject_HEAD
    int fd;  /* -1 once it is closed */
    int family;
} descriptor;

/* Whether a function was given as many arguments as it takes; else with an error. */
static int
check_count(const char *name, Py_ssize_t given, Py_ssize_t taken)
{
    if (given == taken) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, taken, given);
    return 0;
}

/* The number that an argument is; false with an error. */
static int
as_size(PyObject *argument, Py_ssize_t *size)
{
    *size = PyLong_AsSsize_t(argument);
    return *size != -1 || !PyErr_Occurred();
}

/* The same, for an int of C. */
static int
as_int(PyObject *argument, int *number)
{
    long value = PyLong_AsLong(argument);
    if (value == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (value < INT_MIN || value > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the number is no int of C");
        return 0;
    }
    *number = (int)value;
    return 1;
}

/* Raise the OSError of errno, in the subclass that fits. */
static PyObject *
raise_errno(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Receive into memory that the caller owns; errno tells where -1 is given. */
static ssize_t
receive(int fd, void *place, size_t size, int flags)
{
    ssize_t received;
    do {
        received = recv(fd, place, size, flags | MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received;
}

/* Send bytes that the caller holds; errno tells where -1 is given. */
static ssize_t
send_some(int fd, const void *data, size_t size, int flags)
{
    ssize_t sent;
    do {
        sent = send(fd, data, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

PyDoc_STRVAR(recv_into_doc,
"recv_into(buffer, nbytes, flags, /)\n--\n\n"
"Receive what has arrived into a buffer; 0 bytes are as many as it has. Never waits.");

static PyObject *
descriptor_recv_into(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    Py_ssize_t size;
    int flags;
    if (!check_count("recv_into", count, 3) || !as_size(args[1], &size) || !as_int(args[2], &flags)
        || PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0)
    {
        return NULL;
    }
    if (size < 0 || size > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "the buffer is smaller than that");
        return NULL;
    }
    ssize_t received = receive(self->fd, view.buf, size ? size : view.len, flags);
    PyObject *result = received < 0 ? raise_errno() : PyLong_FromSsize_t(received);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(recv_doc,
"recv(nbytes, flags, /)\n--\n\n"
"Receive what has arrived, so many bytes at the most. Never waits.");

static PyObject *
descriptor_recv(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;
    int flags;
    if (!check_count("recv", count, 2) || !as_size(args[0], &size) || !as_int(args[1], &flags)) {
        return NULL;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "a number of bytes is not negative");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    ssize_t received = receive(self->fd, PyBytes_AS_STRING(data), size, flags);
    if (received < 0) {
        Py_DECREF(data);
        return raise_errno();
    }
    if (received != size) {
        _PyBytes_Resize(&data, received);  /* gives NULL with an error */
    }
    return data;
}

PyDoc_STRVAR(recv_keeping_last_doc,
"recv_keeping_last(nbytes, /)\n--\n\n"
"Receive so many bytes at the most. Where all of them are there, the last one stays in the kernel as well.\n"
"Never waits.");

static PyObject *
descriptor_recv_keeping_last(descriptor *self, PyObject *argument)
{
    Py_ssize_t size;
    if (!as_size(argument, &size)) {
        return NULL;
    }
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError, "there is no last byte");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    char *place = PyBytes_AS_STRING(data);
    ssize_t taken = size == 1 ? 0 : receive(self->fd, place, size - 1, 0);
    if (taken == size - 1) {
        ssize_t seen = receive(self->fd, place + taken, 1, MSG_PEEK);
        if (seen > 0) {
            return data;
        }
        if (size == 1 && seen < 0) {
            taken = -1;
        }
        /* Else the next call tells why there is no last byte. */
    }
    if (taken < 0) {
        Py_DECREF(data);
        return raise_errno();
    }
    _PyBytes_Resize(&data, taken);  /* gives NULL with an error */
    return data;
}

PyDoc_STRVAR(send_doc,
"send(data, flags, /)\n--\n\n"
"Send what fits; the number of bytes that did. Never waits.");

static PyObject *
descriptor_send(descriptor *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    int flags;
    if (!check_count("send", count, 2) || !as_int(args[1], &flags)
        || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
    {
        return NULL;
    }
    ssize_t sent;
    if (view.len <= MAX_COPY_BYTES) {
        sent = send_some(self->fd, view.buf, view.len, flags);
    }
    else {
        int fd = self->fd;
        Py_BEGIN_ALLOW_THREADS
        sent = send_some(fd, view.buf, view.len, flags);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = sent < 0 ? raise_errno() : PyLong_FromSsize_t(sent);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(fileno_doc,
"fileno()\n--\n\n"
"The number of the descriptor; -1 once it is closed.");

static PyObject *
descriptor_fileno(descriptor *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->fd);
}

/* Close the descriptor, once. The number is free for others from then on, whatever close(2) says. */
static void
close_once(descriptor *self)
{
    int fd = self->fd;
    self->fd = -1;
    if (fd >= 0) {
        close(fd);
    }
}

PyDoc_STRVAR(close_doc,
"close()\n--\n\n"
"Close the descriptor; does nothing where that is done.");

static PyObject *
descriptor_close(descriptor *self, PyObject *Py_UNUSED(ignored))
{
    close_once(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(shutdown_doc,
"shutdown(how, /)\n--\n\n"
"Shut one or both directions down, as shutdown(2).");

static PyObject *
descriptor_shutdown(descriptor *self, PyObject *how)
{
    int direction;
    if (!as_int(how, &direction)) {
        return NULL;
    }
    if (shutdown(self->fd, direction) < 0) {
        return raise_errno();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(setsockopt_doc,
"setsockopt(level, optname, value, /)\n--\n\n"
"Set an option whose value is bytes, as setsockopt(2).");

static PyObject *
descriptor_setsockopt(descriptor *self, PyObject *args)
{
    int level;
    int name;
    Py_buffer value;
    if (!PyArg_ParseTuple(args, "iiy*:setsockopt", &level, &name, &value)) {
        return NULL;
    }
    int failed = setsockopt(self->fd, level, name, value.buf, (socklen_t)value.len);
    PyObject *result = failed ? raise_errno() : Py_NewRef(Py_None);
    PyBuffer_Release(&value);
    return result;
}

static PyObject *
descriptor_family(descriptor *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->family);
}

static PyObject *
descriptor_kind(descriptor *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(SOCK_STREAM);
}

/* Warn of a connection that nobody has closed, as the socket module does, and close it. An exception that is
   on its way stays so. */
static void
descriptor_finalize(descriptor *self)
{
    if (self->fd < 0) {
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *raised = PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
#endif
    if (PyErr_ResourceWarning((PyObject *)self, 1, "unclosed connection, descriptor %d", self->fd) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    close_once(self);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(raised);
#else
    PyErr_Restore(type, value, traceback);
#endif
}

static void
descriptor_dealloc(descriptor *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return; /* somebody who was warned keeps it */
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef descriptor_methods[] = {
    {"recv_into", (PyCFunction)(void (*)(void))descriptor_recv_into, METH_FASTCALL, recv_into_doc},
    {"recv", (PyCFunction)(void (*)(void))descriptor_recv, METH_FASTCALL, recv_doc},
    {"recv_keeping_last", (PyCFunction)descriptor_recv_keeping_last, METH_O, recv_keeping_last_doc},
    {"send", (PyCFunction)(void (*)(void))descriptor_send, METH_FASTCALL, send_doc},
    {"fileno", (PyCFunction)descriptor_fileno, METH_NOARGS, fileno_doc},
    {"close", (PyCFunction)descriptor_close, METH_NOARGS, close_doc},
    {"shutdown", (PyCFunction)descriptor_shutdown, METH_O, shutdown_doc},
    {"setsockopt", (PyCFunction)descriptor_setsockopt, METH_VARARGS, setsockopt_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef descriptor_attributes[] = {
    {"family", (getter)descriptor_family, NULL, "The address family.", NULL},
    {"type", (getter)descriptor_kind, NULL, "SOCK_STREAM.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(descriptor_doc,
"A connection that `accept` has given: what `socket.SocketType` does for one, and never waits.");

static PyType_Slot descriptor_slots[] = {
    {Py_tp_doc, (void *)descriptor_doc},
    {Py_tp_dealloc, descriptor_dealloc},
    {Py_tp_finalize, descriptor_finalize},
    {Py_tp_methods, descriptor_methods},
    {Py_tp_getset, descriptor_attributes},
    {0, NULL},
};

static PyType_Spec descriptor_spec = {
    .name = "uwsgibridge.fast._fast.Descriptor",
    .basicsize = sizeof(descriptor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = descriptor_slots,
};

PyDoc_STRVAR(accept_doc,
"accept(listening, family, /)\n--\n\n"
"Accept a connection on a descriptor of a listening socket that is non-blocking.\n\n"
"Raises BlockingIOError where none waits.");

static PyObject *
accept_connection(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int listening;
    int family;
    if (!check_count("accept", count, 2) || !as_int(args[0], &listening) || !as_int(args[1], &family)) {
        return NULL;
    }
    descriptor *accepted = PyObject_New(descriptor, state_of(module)->descriptor_type);
    if (accepted == NULL) {
        return NULL;
    }
    accepted->family = family;
    accepted->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (accepted->fd < 0) {
        raise_errno();
        Py_DECREF(accepted);
        return NULL;
    }
    return (PyObject *)accepted;
}


/* What a request is received with. */
typedef struct {
    int flags;
    Py_ssize_t max_vars_bytes;
    Py_ssize_t max_vars;
    long long max_body_bytes;
    PyTypeObject *request_type;
} request_limits;

/* Take the arguments behind the first two of `receive_request`; false with an error. */
static int
as_limits(PyObject *const *args, request_limits *limits)
{
    if (!as_int(args[0], &limits->flags) || !as_size(args[1], &limits->max_vars_bytes)
        || !as_size(args[2], &limits->max_vars))
    {
        return 0;
    }
    limits->max_body_bytes = PyLong_AsLongLong(args[3]);
    if (limits->max_body_bytes == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (!PyType_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "a request is made of a class");
        return 0;
    }
    limits->request_type = (PyTypeObject *)args[4];
    return 1;
}

/* Make the tuple that `receive_request` gives; steals the request. NULL with an error. */
static PyObject *
make_received(PyObject *request, Py_ssize_t have, const char *body, Py_ssize_t body_size)
{
    PyObject *count = PyLong_FromSsize_t(have);
    PyObject *seen = PyBytes_FromStringAndSize(body, body_size);
    PyObject *result = count != NULL && seen != NULL ? PyTuple_Pack(3, request, count, seen) : NULL;
    Py_DECREF(request);
    Py_XDECREF(count);
    Py_XDECREF(seen);
    return result;
}

/* Make a request of what was received, if it is whole, with its body: a tuple of the request, the number of
   bytes that were received, and the body. NULL where it is not mine, or with an error. */
static PyObject *
whole_request(module_state *state, const unsigned char *data, Py_ssize_t have, const request_limits *limits)
{
    Py_ssize_t end;
    if (!have || data[0] != MODIFIER_REQUEST) {
        return NULL;
    }
    PyObject *vars = find_vars(state, data, have, limits->max_vars_bytes, limits->max_vars, &end);
    if (vars == NULL) {
        return NULL;
    }
    long long length = settle(state, vars, limits->max_body_bytes);
    PyObject *result = NULL;
    if (length >= 0 && length <= have - end) {
        PyObject *request = make_request(state, limits->request_type, vars, length);
        if (request != NULL) {
            result = make_received(request, have, (const char *)data + end, (Py_ssize_t)length);
        }
    }
    Py_DECREF(vars);
    return result;
}

PyDoc_STRVAR(receive_request_doc,
"receive_request(connection, scratch, flags, max_vars_bytes, max_vars, max_body_bytes, request_type, /)\n--\n\n"
"Receive into a buffer what has arrived on a connection that `accept` has given.\n\n"
"Gives the number of bytes; or, where they are a whole plain request with its body, a tuple of the request, that\n"
"number and the body. None, with nothing received, where the connection is of another type.");

static PyObject *
receive_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = state_of(module);
    request_limits limits;
    if (!check_count("receive_request", count, 7) || !as_limits(args + 2, &limits)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->descriptor_type)) {
        Py_RETURN_NONE;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    PyObject *result;
    ssize_t received = receive(((descriptor *)args[0])->fd, view.buf, view.len, limits.flags);
    if (received < 0) {
        result = raise_errno();
    }
    else {
        result = whole_request(state, view.buf, received, &limits);
        if (result == NULL && !PyErr_Occurred()) {
            result = PyLong_FromSsize_t(received);
        }
    }
    PyBuffer_Release(&view);
    return result;
}

/* Take bytes out of the kernel that were peeked at, and drop them. -1 with errno. */
static int
drop_peeked(int fd, Py_ssize_t count)
{
    char unread[16384];
    while (count > 0) {
        size_t piece = (size_t)count < sizeof(unread) ? (size_t)count : sizeof(unread);
        ssize_t taken = receive(fd, unread, piece, 0);
        if (taken <= 0) {
            /* The thread that lost the connection may have read them. */
            return taken == 0 || errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        }
        count -= taken;
    }
    return 0;
}

PyDoc_STRVAR(take_and_close_doc,
"take_and_close(connection, count, /)\n--\n\n"
"Take bytes out of the kernel that were peeked at, and close the connection.\n\n"
"Gives True; False, with nothing done, where the connection is of another type than that of `accept`.");

static PyObject *
take_and_close(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t bytes;
    if (!check_count("take_and_close", count, 2) || !as_size(args[1], &bytes)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state_of(module)->descriptor_type)) {
        Py_RETURN_FALSE;
    }
    descriptor *connection = (descriptor *)args[0];
    if (drop_peeked(connection->fd, bytes) < 0) {
        return raise_errno();
    }
    close_once(connection);
    Py_RETURN_TRUE;
}


/* -- The module -------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"parse_packet", (PyCFunction)(void (*)(void))parse_packet, METH_FASTCALL, parse_packet_doc},
    {"settle_vars", (PyCFunction)(void (*)(void))settle_vars, METH_FASTCALL, settle_vars_doc},
    {"http_scope", (PyCFunction)(void (*)(void))http_scope, METH_FASTCALL, http_scope_doc},
    {"encode_head", (PyCFunction)(void (*)(void))encode_head, METH_FASTCALL, encode_head_doc},
    {"encode_pairs", encode_pairs, METH_O, encode_pairs_doc},
    {"environ", (PyCFunction)(void (*)(void))environ_of, METH_FASTCALL, environ_doc},
    {"accept", (PyCFunction)(void (*)(void))accept_connection, METH_FASTCALL, accept_doc},
    {"receive_request", (PyCFunction)(void (*)(void))receive_request, METH_FASTCALL, receive_request_doc},
    {"take_and_close", (PyCFunction)(void (*)(void))take_and_close, METH_FASTCALL, take_and_close_doc},
    {NULL, NULL, 0, NULL},
};

static int
fill_state(PyObject *module, module_state *state)
{
    for (int i = 0; i < VARS; i++) {
        state->vars[i] = PyUnicode_InternFromString(VAR_NAMES[i]);
        if (state->vars[i] == NULL) {
            return -1;
        }
    }
    for (int i = 0; i < TEXTS; i++) {
        state->texts[i] = PyUnicode_InternFromString(TEXT_WORDS[i]);
        if (state->texts[i] == NULL) {
            return -1;
        }
    }
    state->content_type = PyBytes_FromString("content-type");
    state->content_length = PyBytes_FromString("content-length");
    state->descriptor_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &descriptor_spec, NULL);
    return state->content_type && state->content_length && state->descriptor_type ? 0 : -1;
}

static int
execute(PyObject *module)
{
    module_state *state = state_of(module);
    if (fill_state(module, state) < 0
        || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0
        || PyModule_AddStringConstant(module, "SOURCE_DIGEST", SOURCE_DIGEST) < 0
        || PyModule_AddType(module, state->descriptor_type) < 0)
    {
        return -1;
    }
    return 0;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = state_of(module);
    if (state != NULL) {
        Py_VISIT(state->descriptor_type);
    }
    return 0;
}

static int
clear(PyObject *module)
{
    module_state *state = state_of(module);
    if (state == NULL) {
        return 0;
    }
    for (int i = 0; i < VARS; i++) {
        Py_CLEAR(state->vars[i]);
    }
    for (int i = 0; i < TEXTS; i++) {
        Py_CLEAR(state->texts[i]);
    }
    for (int i = 0; i < KEPT_VARS; i++) {
        Py_CLEAR(state->kept[i].name);
        Py_CLEAR(state->kept[i].value);
    }
    Py_CLEAR(state->content_type);
    Py_CLEAR(state->content_length);
    Py_CLEAR(state->descriptor_type);
    return 0;
}

static void
release(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "uwsgibridge.fast._fast",
    .m_doc = "The accelerator: the plain case of what each request needs.",
    .m_size = sizeof(module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC
PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
