/* Errors that are on their way while something else is done. */

/* An error that was set aside; it owns what it holds. */
typedef struct {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *raised;
#else
    PyObject *type;
    PyObject *value;
    PyObject *traceback;
#endif
} raised_error;

/* Set the error aside that is on its way, if there is one. */
static inline raised_error
set_error_aside(void)
{
    raised_error error;
#if PY_VERSION_HEX >= 0x030C0000
    error.raised = PyErr_GetRaisedException();
#else
    PyErr_Fetch(&error.type, &error.value, &error.traceback);
#endif
    return error;
}

/* Let an error that was set aside go on its way. */
static inline void
bring_error_back(raised_error error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error.raised);
#else
    PyErr_Restore(error.type, error.value, error.traceback);
#endif
}
