/* Texts with one byte for each character, which all texts of a packet are. */

/* How many digits a number may have: as in `protocol.request` and `protocol.response_headers`. */
#define MAX_LENGTH_DIGITS 18
#define MAX_PORT_DIGITS 5

/* Whether a text has one byte for each character; all texts of a packet do. */
static inline int
is_narrow(PyObject *text)
{
    return PyUnicode_CheckExact(text) && PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND;
}

/* Whether a narrow text is this word. */
static inline int
is_word(PyObject *text, const char *word, Py_ssize_t size)
{
    return PyUnicode_GET_LENGTH(text) == size && !memcmp(PyUnicode_1BYTE_DATA(text), word, size);
}

/* The bytes of a narrow text; a new reference. */
static inline PyObject *
encode_narrow(PyObject *text)
{
    return PyBytes_FromStringAndSize((const char *)PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text));
}

/* The number that digits make, or -1 where there are none, too many, or something else. */
static long long
number_of(const Py_UCS1 *digits, Py_ssize_t count, Py_ssize_t most)
{
    if (count < 1 || count > most) {
        return -1;
    }
    long long number = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return -1;
        }
        number = number * 10 + (digits[i] - '0');
    }
    return number;
}

/* A text of these bytes, as latin-1: a new reference.

   `kept` is what was at this place in the previous packet. The same text is given again where the bytes are
   the same, which also saves its hash; else the new one takes its place, unless it is large. */
static PyObject *
text_at(PyObject **kept, const char *data, Py_ssize_t size, Py_ssize_t most_kept)
{
    PyObject *text = *kept;
    if (text != NULL && is_word(text, data, size)) {
        return Py_NewRef(text);
    }
    text = PyUnicode_DecodeLatin1(data, size, NULL);
    if (text != NULL && size <= most_kept) {
        Py_XSETREF(*kept, Py_NewRef(text));
    }
    return text;
}
