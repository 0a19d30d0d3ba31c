/* What several threads use at once where the interpreter runs without its lock: a free-threaded Python (PEP 703).

   With that lock, only one thread is in here at a time, and gives the lock up at known places alone. Then all of this is
   nothing. Without it, these rules hold:

   - what is kept between two requests belongs to one thread (`memo.h`);
   - what another thread may look at or change meanwhile has a guard, which is held for a few steps. Whoever holds a
     guard runs nothing of Python, and waits for no other guard;
   - of a list or a dict that others know, an item is looked at by a reference of its own. */

#ifdef Py_GIL_DISABLED

typedef PyMutex guard;

/* Begin steps that no other thread sees half done. */
#define HOLD(which) PyMutex_Lock(which)

/* End these steps. */
#define LET_GO(which) PyMutex_Unlock(which)

#else

typedef char guard;

#define HOLD(which) ((void)(which))
#define LET_GO(which) ((void)(which))

#endif

/* The value of a key in a dict that others may change: a new reference; NULL where there is none, or with an error. */
static inline PyObject *
look_up_item(PyObject *dict, PyObject *key)
{
#ifdef Py_GIL_DISABLED
    PyObject *found;
    (void)PyDict_GetItemRef(dict, key, &found);
    return found;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

/* An item of a list that others may change: a new reference; NULL, without an error, where the list has become too short. */
static inline PyObject *
item_of_list(PyObject *list, Py_ssize_t place)
{
#ifdef Py_GIL_DISABLED
    PyObject *item = PyList_GetItemRef(list, place);
    if (item == NULL) {
        PyErr_Clear();
    }
    return item;
#else
    return place < PyList_GET_SIZE(list) ? Py_NewRef(PyList_GET_ITEM(list, place)) : NULL;
#endif
}

/* Take the last item out of a list that others may change; NULL where there is none, or with an error. */
static inline PyObject *
pop_item(PyObject *list)
{
    Py_ssize_t last = PyList_GET_SIZE(list) - 1;
    if (last < 0) {
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    PyObject *item = PyObject_CallMethod(list, "pop", NULL);
    if (item == NULL && PyErr_ExceptionMatches(PyExc_IndexError)) {
        PyErr_Clear(); /* others have taken all */
    }
    return item;
#else
    PyObject *item = Py_NewRef(PyList_GET_ITEM(list, last));
    if (PyList_SetSlice(list, last, last + 1, NULL) < 0) {
        Py_CLEAR(item);
    }
    return item;
#endif
}

/* Take a key out of a dict, for one thread alone: 1, or 0 where another thread has done that, or -1 with an error. */
static inline int
take_out(PyObject *dict, PyObject *key)
{
#ifdef Py_GIL_DISABLED
    return PyDict_Pop(dict, key, NULL);
#else
    return PyDict_DelItem(dict, key) < 0 ? -1 : 1;
#endif
}
