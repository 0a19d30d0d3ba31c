/* The environ of WSGI. */

/* Make an environ but for its input; NULL where it is not mine, or with an error. */
static PyObject *
make_environ(const module_state *state, PyObject *vars, PyObject *base, PyObject *server_software)
{
    PyObject *scheme = plain_scheme(state, vars);
    PyObject *environ = scheme == NULL ? NULL : PyDict_Copy(vars);
    if (environ != NULL
        && (PyDict_Update(environ, base) < 0
            || PyDict_SetItem(environ, state->texts[TEXT_URL_SCHEME], scheme) < 0
            || PyDict_SetDefault(environ, state->vars[VAR_SERVER_SOFTWARE], server_software) == NULL))
    {
        Py_CLEAR(environ);
    }
    return environ;
}

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
    PyObject *environ = make_environ(state_of(module), args[0], args[1], args[2]);
    if (environ == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return environ;
}
