/* Arguments of functions. */

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
