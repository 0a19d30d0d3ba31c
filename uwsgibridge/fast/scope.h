/* The scope of ASGI. */

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

/* Put a new dict into another one, under this name; borrowed, or NULL with an error. */
static PyObject *
put_dict(PyObject *owner, PyObject *name)
{
    PyObject *made = PyDict_New();
    if (made == NULL) {
        return NULL;
    }
    int failed = PyDict_SetItem(owner, name, made) < 0;
    Py_DECREF(made);
    return failed ? NULL : made;
}

/* Put what a call, or a copy, has given into a dict, under this name; steals the value. False with an error. */
static int
put_value(PyObject *owner, PyObject *name, PyObject *value)
{
    int done = value != NULL && PyDict_SetItem(owner, name, value) == 0;
    Py_XDECREF(value);
    return done;
}

/* Add the state of the lifespan and the extensions, as `hosts.asgi.http` does; false with an error. */
static int
add_extensions(const module_state *state, PyObject *scope, PyObject *vars, PyObject *shared, PyObject *tls_extension)
{
    PyObject *const *texts = state->texts;
    if (!put_value(scope, texts[TEXT_STATE], PyDict_Copy(shared))) {
        return 0;
    }
    PyObject *extensions = put_dict(scope, texts[TEXT_EXTENSIONS]);
    if (extensions == NULL
        || put_dict(extensions, texts[TEXT_PATHSEND]) == NULL
        || put_dict(extensions, texts[TEXT_ZEROCOPYSEND]) == NULL
        || put_dict(extensions, texts[TEXT_EARLY_HINT]) == NULL)
    {
        return 0;
    }
    PyObject *own = put_dict(extensions, texts[TEXT_UWSGI]);
    /* A copy, so that the application may change it, and the request stays as it is. */
    if (own == NULL || !put_value(own, texts[TEXT_VARS], PyDict_Copy(vars))) {
        return 0;
    }
    int has_tls = PyDict_Contains(vars, texts[TEXT_SSL_PROTOCOL]);
    return has_tls > 0 ? put_value(extensions, texts[TEXT_TLS], PyObject_CallOneArg(tls_extension, vars)) : !has_tls;
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
