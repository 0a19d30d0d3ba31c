/* Files: how much there is of one, and its first bytes. */

/* As much of a file is read here at the most. */
#define MAX_BEGINNING_BYTES 16384

/* What is found out of a file. */
typedef struct {
    long long available;  /* from the offset on */
    ssize_t read;
} file_beginning;

/* Look at a file and read its beginning, without the interpreter's lock: both may wait for a disk, or for a server of
   NFS. 0 where the file is not plain, or can't be read. */
static int
read_beginning(int fd, long long offset, size_t whole, size_t first, char *place, file_beginning *found)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !status.st_size || offset < 0) {
        return 0;
    }
    found->available = status.st_size > offset ? status.st_size - offset : 0;
    size_t wanted = found->available <= (long long)whole ? (size_t)found->available : first;
    do {
        found->read = pread(fd, place, wanted, (off_t)offset);
    } while (found->read < 0 && errno == EINTR);
    return found->read == (ssize_t)wanted;
}

/* Whether so much of a file may be read; else an error is set. */
static int
check_beginning(Py_ssize_t whole, Py_ssize_t first)
{
    if (whole >= 0 && whole <= MAX_BEGINNING_BYTES && first >= 0 && first <= MAX_BEGINNING_BYTES) {
        return 1;
    }
    PyErr_SetString(PyExc_ValueError, "so much of a file is not read here");
    return 0;
}

/* Call a method that gives a number; false with an error. */
static int
ask_number(PyObject *object, PyObject *name, Py_ssize_t *number)
{
    PyObject *answer = PyObject_CallMethodNoArgs(object, name);
    int is_well = answer != NULL && as_size(answer, number);
    Py_XDECREF(answer);
    return is_well;
}

/* The descriptor and the place of a file as `open` makes it for reading bytes: exactly of these types, since others may have the
   descriptor of a file and read other bytes than it has. 0 where it is none, or can't tell. */
static int
place_of_reader(const module_state *state, PyObject *reader, PyTypeObject *reader_type, PyTypeObject *file_type,
                int *fd, Py_ssize_t *offset)
{
    if (!Py_IS_TYPE(reader, reader_type)) {
        return 0;
    }
    Py_ssize_t number;
    PyObject *raw = PyObject_GetAttr(reader, state->texts[TEXT_RAW]);
    /* tell, not lseek: the reader may have read ahead. */
    int is_told = raw != NULL && Py_IS_TYPE(raw, file_type) && ask_number(raw, state->texts[TEXT_FILENO], &number)
        && ask_number(reader, state->texts[TEXT_TELL], offset);
    Py_XDECREF(raw);
    if (!is_told) {
        PyErr_Clear();
        return 0;
    }
    *fd = (int)number;
    return 1;
}

PyDoc_STRVAR(begin_file_doc,
"begin_file(descriptor, offset, whole_bytes, first_bytes, /)\n--\n\n"
"Tell how many bytes a regular file has from an offset on, and read all of them where they are no more than\n"
"`whole_bytes`, else the first ones.\n\n"
"None where the file has no size, has fewer bytes than it says, or can't be read.");

static PyObject *
begin_file(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    Py_ssize_t offset, whole, first;
    if (!check_count("begin_file", count, 4) || !as_int(args[0], &fd) || !as_size(args[1], &offset)
        || !as_size(args[2], &whole) || !as_size(args[3], &first) || !check_beginning(whole, first))
    {
        return NULL;
    }
    char place[MAX_BEGINNING_BYTES];
    file_beginning found;
    int is_plain;
    Py_BEGIN_ALLOW_THREADS
    is_plain = read_beginning(fd, offset, (size_t)whole, (size_t)first, place, &found);
    Py_END_ALLOW_THREADS
    if (!is_plain) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(Ly#)", found.available, place, (Py_ssize_t)found.read);
}
