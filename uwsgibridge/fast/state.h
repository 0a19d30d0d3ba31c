/* What the module keeps between two requests. */

/* Of the previous packet, so many vars are kept, each with so many bytes of its name and of its value. */
#define KEPT_VARS 64
#define KEPT_NAME_BYTES 64
#define KEPT_VALUE_BYTES 256

/* The names of vars that mean something here. */
enum {
    VAR_CONTENT_LENGTH, VAR_CONTENT_TYPE, VAR_HTTPS, VAR_HTTP_CONTENT_LENGTH, VAR_HTTP_CONTENT_TYPE,
    VAR_HTTP_HOST, VAR_HTTP_PROXY, VAR_HTTP_REFERER, VAR_HTTP_TRANSFER_ENCODING, VAR_HTTP_UPGRADE, VAR_HTTP_USER_AGENT, VAR_PATH_INFO, VAR_QUERY_STRING, VAR_REMOTE_ADDR,
    VAR_REMOTE_PORT, VAR_REMOTE_USER, VAR_REQUEST_METHOD, VAR_REQUEST_SCHEME, VAR_REQUEST_URI, VAR_SCRIPT_NAME,
    VAR_SENT, VAR_SERVER_NAME, VAR_SERVER_PORT, VAR_SERVER_PROTOCOL, VAR_SERVER_SOFTWARE, VAR_UWSGI_SCHEME,
    VARS
};

static const char *const VAR_NAMES[VARS] = {
    "CONTENT_LENGTH", "CONTENT_TYPE", "HTTPS", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE",
    "HTTP_HOST", "HTTP_PROXY", "HTTP_REFERER", "HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE", "HTTP_USER_AGENT", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR",
    "REMOTE_PORT", "REMOTE_USER", "REQUEST_METHOD", "REQUEST_SCHEME", "REQUEST_URI", "SCRIPT_NAME",
    "UWSGIBRIDGE_SENT", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "UWSGI_SCHEME",
};

/* The keys of an ASGI scope, the texts that are values in it, and names of attributes. */
enum {
    TEXT_ASGI, TEXT_CLIENT, TEXT_EMPTY, TEXT_HEADERS, TEXT_HTTP, TEXT_HTTPS, TEXT_HTTP_VERSION,
    TEXT_METHOD, TEXT_PATH, TEXT_QUERY_STRING, TEXT_RAW_PATH, TEXT_ROOT_PATH, TEXT_SCHEME, TEXT_SERVER,
    TEXT_TYPE, TEXT_URL_SCHEME, TEXT_VARS, TEXT_LENGTH,
    TEXT_ADMISSION, TEXT_FREE, TEXT_IN_FLIGHT, TEXT_LIMIT, TEXT_SCRATCH, TEXT_SUBMIT,
    TEXT_BODY, TEXT_EARLY_HINT, TEXT_EXTENSIONS, TEXT_MORE_BODY, TEXT_PATHSEND,
    TEXT_REQUEST_TYPE, TEXT_RESPONSE_BODY, TEXT_RESPONSE_START,
    TEXT_SSL_PROTOCOL, TEXT_STATE, TEXT_STATUS, TEXT_TLS, TEXT_UWSGI,
    TEXT_ZEROCOPYSEND,
    TEXT_CLOSE, TEXT_FILELIKE, TEXT_FILENO, TEXT_HAS_UNFINISHED, TEXT_INPUT, TEXT_START_RESPONSE, TEXT_WAKE_AT, TEXT_WRITE,
    TEXT_ARE_KEPT, TEXT_AT_ONCE, TEXT_CANCEL, TEXT_IS_COPY, TEXT_IS_CUT, TEXT_IS_NONBLOCKING, TEXT_OUTLET, TEXT_PENDING, TEXT_PLAN, TEXT_PUSHING,
    TEXT_RAW, TEXT_REQUEST_ID, TEXT_TELL,
    TEXTS
};

static const char *const TEXT_WORDS[TEXTS] = {
    "asgi", "client", "", "headers", "http", "https", "http_version",
    "method", "path", "query_string", "raw_path", "root_path", "scheme", "server",
    "type", "wsgi.url_scheme", "vars", "content_length",
    "admission", "free_slots", "in_flight", "limit", "scratch", "submit",
    "body", "http.response.early_hint", "extensions", "more_body", "http.response.pathsend",
    "http.request", "http.response.body", "http.response.start",
    "SSL_PROTOCOL", "state", "status", "tls", "uwsgi",
    "http.response.zerocopysend",
    "close", "filelike", "fileno", "has_unfinished", "wsgi.input", "start_response", "_wake_at", "_write_from_application",
    "are_kept", "at_once", "cancel", "_is_copy", "_is_cut", "is_nonblocking", "outlet", "_pending", "plan", "_pushing",
    "raw", "uwsgibridge.request_id", "tell",
};

/* A var at one place of the previous packet. The next packet has mostly the same one at that place. */
typedef struct {
    PyObject *name;   /* str, or NULL */
    PyObject *value;  /* str, or NULL */
    int which;        /* of VAR_NAMES; -1 for another name */
} kept_var;

/* The values of those vars of a packet that mean something here: NULL, or borrowed of the dict that has the vars. */
typedef struct {
    PyObject *values[VARS];
} known_vars;

/* A var of the previous scope, and the header that it is. */
typedef struct {
    PyObject *name;    /* str, or NULL */
    PyObject *value;   /* str */
    PyObject *header;  /* a tuple, or None for a var that is no header */
} kept_header;

/* An address of the previous scope. */
typedef struct {
    PyObject *host;  /* str, or NULL */
    PyObject *port;  /* str */
    PyObject *pair;  /* a tuple */
} kept_address;

/* What is kept of the previous request: by the module, or by each thread (`memo.h`). */
typedef struct {
    kept_var kept[KEPT_VARS];
    kept_header headers[KEPT_VARS];
    kept_address client;
    kept_address server;
    PyObject *asked_name;      /* str: the name of the host that was last asked for, or NULL */
} memo;

typedef struct {
    PyObject *vars[VARS];
    PyObject *texts[TEXTS];
    PyObject *content_type;    /* bytes */
    PyObject *content_length;  /* bytes */
#ifdef Py_GIL_DISABLED
    PyTypeObject *memo_type;   /* of what a thread keeps */
    PyTypeObject *end_lock_type;
#else
    memo kept;
#endif
    PyObject *scope;           /* a dict with the keys of each scope */
    PyObject *empty_bytes;
    PyTypeObject *recorder_type;
    PyTypeObject *sent_line_type;
    PyTypeObject *descriptor_type;
    PyTypeObject *fields_type;
    PyTypeObject *intake_type;
    PyTypeObject *step_type;
    PyTypeObject *first_step_type;
    PyTypeObject *caller_type;
    PyTypeObject *plan_type;
    PyTypeObject *http_fields_type;
    PyTypeObject *handover_type;
    PyTypeObject *exchange_type;
    PyTypeObject *thread_type;
} module_state;

static inline module_state *
state_of(PyObject *module)
{
    return (module_state *)PyModule_GetState(module);
}

/* Of this module; in `_fast.c`. */
static struct PyModuleDef definition;
