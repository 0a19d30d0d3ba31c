/* The vars of a request, as `protocol.request` has them. */

/* The value of a var, borrowed; NULL where there is none, or with an error. */
static inline PyObject *
var_of(const module_state *state, PyObject *vars, int which)
{
    return PyDict_GetItemWithError(vars, state->vars[which]);
}

/* Whether a var is there and has a text of at least so many characters. */
static inline int
has_text(const known_vars *known, int which, Py_ssize_t least)
{
    PyObject *value = known->values[which];
    return value != NULL && is_narrow(value) && PyUnicode_GET_LENGTH(value) >= least;
}

/* The length of the body: -1 where it is not plain, or over a limit that is not 0. */
static long long
body_length(const known_vars *known, long long max_body_bytes)
{
    PyObject *text = known->values[VAR_CONTENT_LENGTH];
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

/* Whether SCRIPT_NAME needs no change: it is missing, is empty, or has no slash at its end. */
static int
is_plain_script_name(PyObject *script_name)
{
    if (script_name == NULL) {
        return 1;
    }
    Py_ssize_t size = is_narrow(script_name) ? PyUnicode_GET_LENGTH(script_name) : -1;
    return size == 0 || (size > 0 && PyUnicode_1BYTE_DATA(script_name)[size - 1] != '/');
}

/* The name of the host that the client has asked for, without its port: how many characters of HTTP_HOST it has. 0 where
   there is none. nginx sends an empty SERVER_NAME where no server_name is configured. */
static Py_ssize_t
asked_name(const known_vars *known, const char **name)
{
    PyObject *host = known->values[VAR_HTTP_HOST];
    if (host == NULL || !is_narrow(host)) {
        return 0;
    }
    *name = (const char *)PyUnicode_1BYTE_DATA(host);
    Py_ssize_t size = PyUnicode_GET_LENGTH(host);
    const char *end = size && **name != '[' ? memchr(*name, ':', size) : NULL;
    return size && **name == '[' ? 0 : end == NULL ? size : end - *name;
}

/* Whether these are the vars of a request for which no default is needed but an empty SCRIPT_NAME, and the name of the
   host that was asked for as SERVER_NAME. */
static int
are_plain(const known_vars *known)
{
    const char *name;
    return is_plain_script_name(known->values[VAR_SCRIPT_NAME])
        && has_text(known, VAR_REQUEST_METHOD, 1)
        && has_text(known, VAR_QUERY_STRING, 0)
        && has_text(known, VAR_SERVER_PROTOCOL, 0)
        && has_text(known, VAR_PATH_INFO, 0)
        && (has_text(known, VAR_SERVER_NAME, 1)
            || (has_text(known, VAR_SERVER_NAME, 0) && asked_name(known, &name) > 0))
        && has_text(known, VAR_SERVER_PORT, 1);
}

/* Give SERVER_NAME a text where it has none; false with an error. */
static int
name_server(module_state *state, PyObject *vars, const known_vars *known)
{
    const char *name;
    if (has_text(known, VAR_SERVER_NAME, 1)) {
        return 1;
    }
    Py_ssize_t size = asked_name(known, &name);
    memo *mine = memo_of(state);
    PyObject *text = mine == NULL ? NULL : text_at(&mine->asked_name, name, size, KEPT_VALUE_BYTES);
    int failed = text == NULL || PyDict_SetItem(vars, state->vars[VAR_SERVER_NAME], text) < 0;
    Py_XDECREF(text);
    return !failed;
}

/* Make the vars of a packet those of a request. Gives the length of its body, -1 with nothing changed where
   that is not mine, -2 with an error. `known` are the vars as they came. */
static long long
settle(module_state *state, PyObject *vars, const known_vars *known, long long max_body_bytes)
{
    static const int dropped[] = {
        VAR_HTTP_PROXY, VAR_HTTP_CONTENT_TYPE, VAR_HTTP_CONTENT_LENGTH, VAR_HTTP_TRANSFER_ENCODING,
    };
    long long length = are_plain(known) ? body_length(known, max_body_bytes) : -1;
    if (length < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        if (known->values[dropped[i]] != NULL && PyDict_DelItem(vars, state->vars[dropped[i]]) < 0) {
            return -2;
        }
    }
    if ((known->values[VAR_SCRIPT_NAME] == NULL
         && PyDict_SetItem(vars, state->vars[VAR_SCRIPT_NAME], state->texts[TEXT_EMPTY]) < 0)
        || !name_server(state, vars, known))
    {
        return -2;
    }
    return length;
}

/* Whether plain vars may be those of a request for a file of `--static`, as `hosts.static.host` has it. */
static int
may_be_file(const module_state *state, PyObject *vars, PyObject *prefixes)
{
    /* Both are there, and narrow: the vars are plain. */
    PyObject *method = var_of(state, vars, VAR_REQUEST_METHOD);
    PyObject *path = var_of(state, vars, VAR_PATH_INFO);
    if (!is_word(method, "GET", 3) && !is_word(method, "HEAD", 4)) {
        return 0;
    }
    const Py_UCS1 *data = PyUnicode_1BYTE_DATA(path);
    Py_ssize_t size = PyUnicode_GET_LENGTH(path);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(prefixes); i++) {
        PyObject *prefix = PyTuple_GET_ITEM(prefixes, i);
        Py_ssize_t length = PyUnicode_GET_LENGTH(prefix);
        if (length <= size && !memcmp(data, PyUnicode_1BYTE_DATA(prefix), length)
            && (length == size || data[length] == '/'))
        {
            return 1;
        }
    }
    return 0;
}

PyDoc_STRVAR(settle_vars_doc,
"settle_vars(vars, max_body_bytes, /)\n--\n\n"
"Make the vars of a packet with modifier1 0 those of a `uwsgibridge.protocol.request.Request`, in place.\n\n"
"Gives the length of its body; None, with nothing changed, where a default is needed, SCRIPT_NAME ends with a slash,\n"
"or the length is to be refused.");

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
    module_state *state = state_of(module);
    known_vars known;
    for (int i = 0; i < VARS; i++) {
        known.values[i] = var_of(state, args[0], i);
    }
    long long length = PyErr_Occurred() ? -2 : settle(state, args[0], &known, max_body_bytes);
    if (length == -1) {
        Py_RETURN_NONE;
    }
    return length < 0 ? NULL : PyLong_FromLongLong(length);
}

/* Make a request of `type`, which has two slots for that, around settled vars; a new reference, or NULL with an error. */
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
