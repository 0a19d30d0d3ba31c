/* When the frontend has sent a request, as `protocol.sent` has it. */

/* How a moment is written: seconds with so many digits at the most, a point, and milliseconds. */
#define MAX_MOMENT_DIGITS 12
#define MILLISECOND_DIGITS 3

/* Which ages are believed. */
#define MOST_AHEAD_SECONDS 1.0
#define MOST_AGE_SECONDS 86400.0

/* How long ago the frontend has sent a request: seconds, or NaN where it does not say so, or with an error. `now` is of the
   wall's clock. */
static double
seconds_since_sent(const module_state *state, PyObject *vars, double now)
{
    PyObject *text = var_of(state, vars, VAR_SENT);
    if (text == NULL || !is_narrow(text)) {
        return NAN;
    }
    const Py_UCS1 *digits = PyUnicode_1BYTE_DATA(text);
    Py_ssize_t whole = PyUnicode_GET_LENGTH(text) - MILLISECOND_DIGITS - 1;
    if (whole < 1 || digits[whole] != '.') {
        return NAN;
    }
    long long seconds = number_of(digits, whole, MAX_MOMENT_DIGITS);
    long long milliseconds = number_of(digits + whole + 1, MILLISECOND_DIGITS, MILLISECOND_DIGITS);
    if (seconds < 0 || milliseconds < 0) {
        return NAN;
    }
    double age = now - ((double)seconds + (double)milliseconds / 1000.0);
    if (age < -MOST_AHEAD_SECONDS || age > MOST_AGE_SECONDS) {
        return NAN;
    }
    return age > 0.0 ? age : 0.0;
}

PyDoc_STRVAR(since_sent_doc,
"seconds_since_sent(vars, now, /)\n--\n\n"
"Tell how long ago the frontend has sent a request; None where it does not say so.");

static PyObject *
since_sent(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyDict_CheckExact(args[0]) || !PyFloat_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "seconds_since_sent takes a dict and a float");
        return NULL;
    }
    double age = seconds_since_sent(state_of(module), args[0], PyFloat_AS_DOUBLE(args[1]));
    if (PyErr_Occurred()) {
        return NULL;
    }
    return isnan(age) ? Py_NewRef(Py_None) : PyFloat_FromDouble(age);
}
