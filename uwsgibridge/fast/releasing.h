/* The place that a request holds, as `link.flights` and `hosts.admission` have it. */

/* Where the places of one host are; borrowed of what the host's plan owns. */
typedef struct {
    PyObject *free_slots;  /* a list */
    PyObject *in_flight;   /* a set */
    PyObject *admission;
} place_tables;

/* Whether somebody is to be woken, as few requests as are in flight now; -1 with an error. */
static int
is_awaited(const module_state *state, const place_tables *tables)
{
    PyObject *wake_at = PyObject_GetAttr(tables->admission, state->texts[TEXT_WAKE_AT]);
    Py_ssize_t level = wake_at == NULL ? -1 : PyLong_AsSsize_t(wake_at);
    Py_XDECREF(wake_at);
    if (PyErr_Occurred()) {
        return -1;
    }
    return level >= 0 && PySet_Size(tables->in_flight) <= level;
}

/* Give the place of a request back, which is over. 1, or 0 where Python is to do it once more, since somebody is to be woken
   for it, or -1 with an error.

   That is looked at last, as `Admission.release` does: without the interpreter's lock, the listener may ask to be woken just
   before the request leaves the table. */
static int
give_place_back(const module_state *state, const place_tables *tables, connection_fields *connection)
{
    PyObject *slot = connection->slot;
    if (PyMemoryView_Check(slot)) {
        *(unsigned char *)PyMemoryView_GET_BUFFER(slot)->buf = SLOT_FREE;
        if (PyList_Append(tables->free_slots, slot) < 0) {
            return -1;
        }
        Py_SETREF(connection->slot, Py_NewRef(Py_None));
    }
    if (PySet_Discard(tables->in_flight, (PyObject *)connection) < 0) {
        return -1;
    }
    int awaited = is_awaited(state, tables);
    return awaited < 0 ? -1 : !awaited;
}
