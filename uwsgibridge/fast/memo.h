/* What is kept of the previous request, since the next one has mostly the same texts.

   With the interpreter's lock, the module has one of it. Without that lock, each thread has its own: its texts then belong
   to that thread, whose references to them cost no more than with the lock. */

/* Forget an address that was kept. */
static void
forget_address(kept_address *kept)
{
    Py_CLEAR(kept->host);
    Py_CLEAR(kept->port);
    Py_CLEAR(kept->pair);
}

/* Forget all of it. */
static void
forget_memo(memo *mine)
{
    for (int i = 0; i < KEPT_VARS; i++) {
        Py_CLEAR(mine->kept[i].name);
        Py_CLEAR(mine->kept[i].value);
        Py_CLEAR(mine->headers[i].name);
        Py_CLEAR(mine->headers[i].value);
        Py_CLEAR(mine->headers[i].header);
    }
    forget_address(&mine->client);
    forget_address(&mine->server);
    Py_CLEAR(mine->asked_name);
}

#ifdef Py_GIL_DISABLED

/* What one thread keeps. The dict of the thread's state owns it, and so it goes with the thread. */
typedef struct {
    PyObject_HEAD
    const module_state *state;  /* of the module that it belongs to: an interpreter has its own */
    memo kept;
} thread_memo;

/* That of the present thread, borrowed from the dict of its state; NULL before it is made. */
static _Thread_local thread_memo *present_memo;

/* Find what the present thread keeps for this module, or make it; NULL with an error. */
static memo *
find_memo(module_state *state)
{
    PyObject *own = PyThreadState_GetDict();
    if (own == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the thread keeps nothing");
        return NULL;
    }
    thread_memo *mine = (thread_memo *)PyDict_GetItemWithError(own, (PyObject *)state->memo_type);
    if (mine == NULL) {
        mine = PyErr_Occurred() ? NULL : (thread_memo *)state->memo_type->tp_alloc(state->memo_type, 0);
        if (mine == NULL) {
            return NULL;
        }
        mine->state = state;
        int failed = PyDict_SetItem(own, (PyObject *)state->memo_type, (PyObject *)mine) < 0;
        Py_DECREF(mine);
        if (failed) {
            return NULL;
        }
    }
    present_memo = mine;
    return &mine->kept;
}

/* What the present thread keeps; NULL with an error. */
static inline memo *
memo_of(module_state *state)
{
    thread_memo *mine = present_memo;
    return mine != NULL && mine->state == state ? &mine->kept : find_memo(state);
}

static void
memo_dealloc(thread_memo *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (present_memo == self) {
        present_memo = NULL;
    }
    forget_memo(&self->kept);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyType_Slot memo_slots[] = {
    {Py_tp_dealloc, memo_dealloc},
    {0, NULL},
};

static PyType_Spec memo_spec = {
    .name = "uwsgibridge.fast._fast.ThreadMemo",
    .basicsize = sizeof(thread_memo),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = memo_slots,
};

#else

static inline memo *
memo_of(module_state *state)
{
    return &state->kept;
}

#endif
