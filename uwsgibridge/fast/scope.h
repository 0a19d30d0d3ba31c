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

/* The same as `address_of`, for texts that are mostly those of the previous request: then it gives the same pair. */
static PyObject *
address_at(kept_address *kept, PyObject *host, PyObject *port)
{
    if (kept->host != NULL && kept->host == host && kept->port == port) {
        return Py_NewRef(kept->pair);
    }
    PyObject *pair = address_of(host, port);
    if (pair != NULL && PyUnicode_GET_LENGTH(host) <= KEPT_VALUE_BYTES) {
        Py_XSETREF(kept->host, Py_NewRef(host));
        Py_XSETREF(kept->port, Py_NewRef(port));
        Py_XSETREF(kept->pair, Py_NewRef(pair));
    }
    return pair;
}

/* The client's address; a new reference, or NULL: not mine, or with an error. */
static PyObject *
client_of(const module_state *state, memo *mine, PyObject *vars)
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
    return address_at(&mine->client, host, var_of(state, vars, VAR_REMOTE_PORT));
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
    PyObject *name = look_up_item(names, var);
    if (name != NULL) {
        return name;
    }
    return PyErr_Occurred() ? NULL : PyObject_GetItem(names, var);
}

static void
forget_header(kept_header *kept)
{
    Py_CLEAR(kept->name);
    Py_CLEAR(kept->value);
    Py_CLEAR(kept->header);
}

/* Keep a header, whose reference is given on; NULL is given on as it is. */
static PyObject *
keep_header(kept_header *kept, PyObject *var, PyObject *value, PyObject *header)
{
    if (header != NULL) {
        Py_XSETREF(kept->name, Py_NewRef(var));
        Py_XSETREF(kept->value, Py_NewRef(value));
        Py_XSETREF(kept->header, Py_NewRef(header));
    }
    return header;
}

/* The header that a var is, or None where it is none; a new reference, or NULL: not mine, or with an error.

   `kept` is what was at this place in the previous scope. Where name and value are the same texts, so is the header. */
static PyObject *
header_at(kept_header *kept, PyObject *names, PyObject *var, PyObject *value)
{
    if (kept->name != NULL && kept->name == var && kept->value == value) {
        return Py_NewRef(kept->header);
    }
    /* To make a name that is new runs Python code, and so other threads. None of them knows these vars. */
    PyObject *name = header_name(names, var);
    if (name == NULL || name == Py_None) {
        return keep_header(kept, var, value, name);
    }
    PyObject *encoded = is_narrow(value) ? encode_narrow(value) : NULL;
    PyObject *header = encoded == NULL ? NULL : PyTuple_Pack(2, name, encoded);
    Py_DECREF(name);
    Py_XDECREF(encoded);
    return keep_header(kept, var, value, header);
}

/* Append all headers of a client. 1, 0 or -1. */
static int
append_headers(const module_state *state, memo *mine, PyObject *headers, PyObject *vars, PyObject *names)
{
    Py_ssize_t position = 0;
    Py_ssize_t count = 0;
    PyObject *var;
    PyObject *value;
    while (PyDict_Next(vars, &position, &var, &value)) {
        kept_header unkept = {NULL, NULL, NULL};
        int may_keep = count < KEPT_VARS && PyUnicode_GET_LENGTH(var) <= KEPT_NAME_BYTES
            && PyUnicode_CheckExact(value) && PyUnicode_GET_LENGTH(value) <= KEPT_VALUE_BYTES;
        PyObject *header = header_at(may_keep ? &mine->headers[count] : &unkept, names, var, value);
        count++;
        if (header == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        int failed = header != Py_None && PyList_Append(headers, header) < 0;
        Py_DECREF(header);
        forget_header(&unkept);
        if (failed) {
            return -1;
        }
    }
    int is_mine = append_own(state, headers, state->content_type, vars, VAR_CONTENT_TYPE);
    if (is_mine != 1) {
        return is_mine;
    }
    return append_own(state, headers, state->content_length, vars, VAR_CONTENT_LENGTH);
}

/* The vars that each scope has; all borrowed. */
typedef struct {
    PyObject *vars;
    PyObject *method;
    PyObject *path;
    PyObject *query_string;
    PyObject *protocol;
    PyObject *server_name;
    PyObject *server_port;
} scope_source;

/* The value of a var that has a text of at least so many characters, borrowed; else NULL. */
static inline PyObject *
text_of(const module_state *state, PyObject *vars, int which, Py_ssize_t least)
{
    PyObject *value = var_of(state, vars, which);
    return value != NULL && is_narrow(value) && PyUnicode_GET_LENGTH(value) >= least ? value : NULL;
}

/* Read the vars, and see that all are there, that the application is mounted at no path, and that method and path are
   given as they are. False: not mine, or with an error. */
static int
read_source(const module_state *state, PyObject *vars, scope_source *source)
{
    PyObject *script_name = text_of(state, vars, VAR_SCRIPT_NAME, 0);
    if (script_name == NULL || PyUnicode_GET_LENGTH(script_name)) {
        return 0;
    }
    source->vars = vars;
    source->method = text_of(state, vars, VAR_REQUEST_METHOD, 1);
    source->path = text_of(state, vars, VAR_PATH_INFO, 0);
    source->query_string = text_of(state, vars, VAR_QUERY_STRING, 0);
    source->protocol = text_of(state, vars, VAR_SERVER_PROTOCOL, 0);
    source->server_name = text_of(state, vars, VAR_SERVER_NAME, 1);
    source->server_port = text_of(state, vars, VAR_SERVER_PORT, 1);
    return source->method != NULL && source->path != NULL && source->query_string != NULL
        && source->protocol != NULL && source->server_name != NULL && source->server_port != NULL
        && is_upper_case(source->method) && PyUnicode_IS_ASCII(source->path);
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
make_parts(module_state *state, const scope_source *source, PyObject *const *args, scope_parts *parts)
{
    PyObject *vars = source->vars;
    memo *mine = memo_of(state);
    if (mine == NULL) {
        return 0;
    }
    parts->scheme = Py_XNewRef(plain_scheme(state, vars));
    parts->version = look_up_item(args[2], source->protocol);
    if (parts->scheme == NULL || parts->version == NULL) {
        return 0;
    }
    parts->raw_path = raw_path_of(var_of(state, vars, VAR_REQUEST_URI));
    parts->client = parts->raw_path == NULL ? NULL : client_of(state, mine, vars);
    if (parts->client == NULL) {
        return 0;
    }
    parts->server = address_at(&mine->server, source->server_name, source->server_port);
    if (parts->server == NULL) {
        return 0;
    }
    parts->asgi = PyDict_Copy(args[3]);
    parts->query_string = encode_narrow(source->query_string);
    parts->headers = PyList_New(0);
    if (parts->asgi == NULL || parts->query_string == NULL || parts->headers == NULL) {
        return 0;
    }
    return append_headers(state, mine, parts->headers, vars, args[1]) == 1;
}

/* Put the parts into a dict that has the keys; NULL with an error. */
static PyObject *
make_scope(const module_state *state, const scope_source *source, const scope_parts *parts)
{
    PyObject *const *texts = state->texts;
    PyObject *scope = PyDict_Copy(state->scope);
    if (scope == NULL) {
        return NULL;
    }
    if (PyDict_SetItem(scope, texts[TEXT_ASGI], parts->asgi) < 0
        || PyDict_SetItem(scope, texts[TEXT_HTTP_VERSION], parts->version) < 0
        || PyDict_SetItem(scope, texts[TEXT_METHOD], source->method) < 0
        || PyDict_SetItem(scope, texts[TEXT_SCHEME], parts->scheme) < 0
        || PyDict_SetItem(scope, texts[TEXT_PATH], source->path) < 0
        || PyDict_SetItem(scope, texts[TEXT_RAW_PATH], parts->raw_path) < 0
        || PyDict_SetItem(scope, texts[TEXT_QUERY_STRING], parts->query_string) < 0
        || PyDict_SetItem(scope, texts[TEXT_HEADERS], parts->headers) < 0
        || PyDict_SetItem(scope, texts[TEXT_CLIENT], parts->client) < 0
        || PyDict_SetItem(scope, texts[TEXT_SERVER], parts->server) < 0)
    {
        Py_DECREF(scope);
        return NULL;
    }
    return scope;
}

/* A dict with the keys of each scope, in their order, and with what is the same in each; NULL with an error. */
static PyObject *
empty_scope(const module_state *state)
{
    static const int keys[] = {
        TEXT_TYPE, TEXT_ASGI, TEXT_HTTP_VERSION, TEXT_METHOD, TEXT_SCHEME, TEXT_PATH, TEXT_RAW_PATH,
        TEXT_QUERY_STRING, TEXT_ROOT_PATH, TEXT_HEADERS, TEXT_CLIENT, TEXT_SERVER,
    };
    PyObject *scope = PyDict_New();
    for (size_t i = 0; scope != NULL && i < sizeof(keys) / sizeof(keys[0]); i++) {
        PyObject *value = keys[i] == TEXT_TYPE ? state->texts[TEXT_HTTP]
            : keys[i] == TEXT_ROOT_PATH ? state->texts[TEXT_EMPTY] : Py_None;
        if (PyDict_SetItem(scope, state->texts[keys[i]], value) < 0) {
            Py_CLEAR(scope);
        }
    }
    return scope;
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
    module_state *state = state_of(module);
    PyObject *scope = NULL;
    scope_source source;
    if (read_source(state, args[0], &source)) {
        scope_parts parts = {0};
        if (make_parts(state, &source, args, &parts)) {
            scope = make_scope(state, &source, &parts);
        }
        clear_parts(&parts);
    }
    if (scope == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return scope;
}
