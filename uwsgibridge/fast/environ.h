/* The environ of WSGI. */

PyDoc_STRVAR(environ_doc,
"environ(vars, base, server_software, /)\n--\n\n"
"Build the environ of a WSGI application but for its input: the vars, what is the same in each environ, the\n"
"scheme, and SERVER_SOFTWARE where the frontend has sent none.\n\n"
"None where the scheme is not plain.");

static PyObject *
environ_of(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyDict_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "environ takes two dicts and a text");
        return NULL;
    }
    const module_state *state = state_of(module);
    PyObject *scheme = plain_scheme(state, args[0]);
    if (scheme == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyObject *environ = PyDict_Copy(args[0]);
    if (environ == NULL) {
        return NULL;
    }
    if (PyDict_Update(environ, args[1]) < 0
        || PyDict_SetItem(environ, state->texts[TEXT_URL_SCHEME], scheme) < 0
        || PyDict_SetDefault(environ, state->vars[VAR_SERVER_SOFTWARE], args[2]) == NULL)
    {
        Py_DECREF(environ);
        return NULL;
    }
    return environ;
}
