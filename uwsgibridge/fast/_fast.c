/* The accelerator: what each request needs, for the plain case alone.

   Each rule, each text and each refusal of uwsgibridge stands in Python, once. A function here does the
   plain case, and gives None ("not mine") for all else, before it has changed or taken anything; its
   caller in Python then does the whole work from the start. So a function here may be narrower than the
   one in Python, and never wider or different. Three functions give something else: `receive_request` a
   number, where it has received what is no whole plain request; `take_and_close` False for a connection
   that is not its own; and `accept` takes each connection or raises.

   It is compiled as one file, so that the compiler sees all of it: the headers beside this one are its parts,
   each included here once, and each uses those above it.

   Rules for all of them:

   - public C API only, Python 3.11 to 3.15, Linux;
   - the objects that are looked at are exactly str, bytes, dict, list and tuple: a subclass may run code
     of the application, and is "not mine". The exception is `header_names` of `http_scope`: it is the
     bridge's own, and its `__missing__` runs Python;
   - calls that can't block keep the interpreter's lock. To let it go costs more than the call, and with
     several threads each one is a hand-over to another thread;
   - where the interpreter runs without its lock, several threads are in here at once: `threads.h` says by what
     rules. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE /* accept4 */
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Of `uwsgibridge.fast`: another number there means that this was built from another state of the source. */
#define INTERFACE 22

/* Of the source that this was built from; given by who compiles. */
#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

/* The parts; each uses those above it. */
#include "threads.h"
#include "forks.h"
#include "state.h"
#include "memo.h"
#include "texts.h"
#include "arguments.h"
#include "errors.h"
#include "recorder.h"
#include "packet.h"
#include "request.h"
#include "sent.h"
#include "scope.h"
#include "environ.h"
#include "head.h"
#include "waiting.h"
#include "connection.h"
#include "receiving.h"
#include "fields.h"
#include "leaving.h"
#include "accepting.h"
#include "intake.h"
#include "files.h"
#include "access_line.h"
#include "sent_line.h"
#include "releasing.h"
#include "awaitable.h"
#include "first_step.h"
#include "caller.h"
#include "exchange.h"
#include "asgi.h"
#include "handover.h"
#ifdef Py_GIL_DISABLED
#include "sharing.h"
#else
#include "lending.h"
#endif
#include "handover_type.h"
#include "wsgi_exchange.h"
#include "end_lock.h"
#include "wsgi_fields.h"
#include "wsgi_thread.h"
#include "wsgi_answer.h"
#include "wsgi_file.h"
#include "wsgi_serving.h"

static PyMethodDef methods[] = {
    {"parse_packet", (PyCFunction)(void (*)(void))parse_packet, METH_FASTCALL, parse_packet_doc},
    {"settle_vars", (PyCFunction)(void (*)(void))settle_vars, METH_FASTCALL, settle_vars_doc},
    {"http_scope", (PyCFunction)(void (*)(void))http_scope, METH_FASTCALL, http_scope_doc},
    {"seconds_since_sent", (PyCFunction)(void (*)(void))since_sent, METH_FASTCALL, since_sent_doc},
    {"encode_head", (PyCFunction)(void (*)(void))encode_head, METH_FASTCALL, encode_head_doc},
    {"encode_pairs", encode_pairs, METH_O, encode_pairs_doc},
    {"environ", (PyCFunction)(void (*)(void))environ_of, METH_FASTCALL, environ_doc},
    {"accept", (PyCFunction)(void (*)(void))accept_connection, METH_FASTCALL, accept_doc},
    {"receive_request", (PyCFunction)(void (*)(void))receive_request, METH_FASTCALL, receive_request_doc},
    {"take_and_close", (PyCFunction)(void (*)(void))take_and_close, METH_FASTCALL, take_and_close_doc},
    {"access_line", (PyCFunction)(void (*)(void))access_line, METH_FASTCALL, access_line_doc},
    {"write_at_once", (PyCFunction)(void (*)(void))write_at_once, METH_FASTCALL, write_at_once_doc},
    {"begin_file", (PyCFunction)(void (*)(void))begin_file, METH_FASTCALL, begin_file_doc},
    {NULL, NULL, 0, NULL},
};

static int
fill_state(module_state *state)
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
    state->empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    state->scope = empty_scope(state);
    return state->content_type && state->content_length && state->empty_bytes && state->scope ? 0 : -1;
}

/* The types, and where the module keeps them. */
static const struct {
    PyType_Spec *spec;
    size_t place;
} TYPES[] = {
    {&recorder_spec, offsetof(module_state, recorder_type)},
    {&sent_line_spec, offsetof(module_state, sent_line_type)},
    {&descriptor_spec, offsetof(module_state, descriptor_type)},
    {&fields_spec, offsetof(module_state, fields_type)},
    {&intake_spec, offsetof(module_state, intake_type)},
    {&first_step_spec, offsetof(module_state, first_step_type)},
    {&step_spec, offsetof(module_state, step_type)},
    {&caller_spec, offsetof(module_state, caller_type)},
    {&plan_spec, offsetof(module_state, plan_type)},
    {&http_fields_spec, offsetof(module_state, http_fields_type)},
    {&handover_spec, offsetof(module_state, handover_type)},
    {&exchange_spec, offsetof(module_state, exchange_type)},
    {&thread_spec, offsetof(module_state, thread_type)},
#ifdef Py_GIL_DISABLED
    {&memo_spec, offsetof(module_state, memo_type)},
    {&end_lock_spec, offsetof(module_state, end_lock_type)},
#endif
};
#define TYPE_COUNT (sizeof(TYPES) / sizeof(TYPES[0]))

static inline PyObject **
type_place(module_state *state, size_t which)
{
    return (PyObject **)((char *)state + TYPES[which].place);
}

static int
add_types(PyObject *module, module_state *state)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, TYPES[i].spec, NULL);
        *type_place(state, i) = type;
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
execute(PyObject *module)
{
    static int counts_forks;
    module_state *state = state_of(module);
    if (fill_state(state) < 0
        || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0
        || PyModule_AddStringConstant(module, "SOURCE_DIGEST", SOURCE_DIGEST) < 0
        || add_types(module, state) < 0)
    {
        return -1;
    }
    if (!counts_forks) {
        counts_forks = 1;
        own_number = getpid();
        if (pthread_atfork(NULL, NULL, count_fork)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = state_of(module);
    if (state == NULL) {
        return 0;
    }
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        Py_VISIT(*type_place(state, i));
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
#ifndef Py_GIL_DISABLED
    forget_memo(&state->kept);
#endif
    Py_CLEAR(state->scope);
    Py_CLEAR(state->content_type);
    Py_CLEAR(state->content_length);
    Py_CLEAR(state->empty_bytes);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        Py_CLEAR(*type_place(state, i));
    }
    return 0;
}

static void
release(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
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
