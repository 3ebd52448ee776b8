/*
 * pylog._rows: what a decode found as Python objects: its records, one for each `next`, and the memory of its columns.
 *
 * What stays true: a record that somebody holds is never changed. The iterator keeps the last two that it gave; the older one
 * is filled anew when nobody else refers to it (as zip does with its one tuple), so that a loop that looks at each record and
 * goes on makes two tuples in all. Two, because the loop's variable still holds one while the next is asked for.
 *
 * The only C file that knows Python: everything else is under csrc/ and needs no interpreter. It is written in the limited API
 * and has the GIL throughout; it reads the view of a decode (plog_columns_view), whose memory `owner` keeps.
 */
#define PY_SSIZE_T_CLEAN /* sizes of "#" are Py_ssize_t */
#include <Python.h>

#include "plog.h"

/* ---------------------------------------------------------------------------------------------- records */

enum { OFFSET, TIMESTAMP, KEY, VALUE, HEADERS, FIELDS };

/* From Python 3.14 on a tuple remembers its hash, and nothing public makes it forget: each record is a new one there. */
#define HASHED_TUPLES_VERSION 0x030E0000UL

typedef struct {
  PyObject_HEAD PyObject *owner; /* of what view points to */
  PyTypeObject *made;            /* tuple, or a class below it that adds no fields */
  allocfunc allocate;            /* made's */
  PyObject *decode_headers;      /* (bytes, count) -> tuple */
  PyObject *no_headers;          /* () */
  PyObject *given[2];            /* the last two records, or NULL */
  PyObject *time;                /* the timestamp of the last record; many have the same */
  int64_t time_ms;
  int64_t at;
  const plog_columns_view *view;
} rows;

static PyObject *field(const plog_bytes_column *column, int64_t i) {
  if (column->nulls[i]) return Py_NewRef(Py_None);
  int64_t begin = column->ends[i];
  return PyBytes_FromStringAndSize((const char *)column->data + begin, (Py_ssize_t)(column->ends[i + 1] - begin));
}

static PyObject *timestamp(rows *r, int64_t time_ms) {
  if (!r->time || r->time_ms != time_ms) {
    PyObject *time = PyLong_FromLongLong(time_ms);
    if (!time) return NULL;
    Py_XDECREF(r->time);
    r->time = time;
    r->time_ms = time_ms;
  }
  return Py_NewRef(r->time);
}

static PyObject *headers(rows *r, int64_t i) {
  int32_t count = r->view->headers_counts[i];
  if (count == 0) return Py_NewRef(r->no_headers);
  const plog_bytes_column *column = &r->view->headers;
  int64_t begin = column->ends[i];
  return PyObject_CallFunction(r->decode_headers, "y#i", (const char *)column->data + begin,
                               (Py_ssize_t)(column->ends[i + 1] - begin), (int)count);
}

/* A record to fill, which nobody else has, in place of the older of the two. Borrowed. */
static PyObject *blank(rows *r) {
  PyObject *old = r->given[0];
  r->given[0] = r->given[1];
  r->given[1] = NULL;
  if (old && Py_REFCNT(old) == 1 && Py_Version < HASHED_TUPLES_VERSION) {
    if (!PyObject_GC_IsTracked(old)) PyObject_GC_Track(old); /* the collector lets go of plain tuples of plain things */
  } else {
    Py_XDECREF(old);
    old = r->made == &PyTuple_Type ? PyTuple_New(FIELDS) : r->allocate(r->made, FIELDS);
  }
  return r->given[1] = old;
}

static PyObject *rows_next(PyObject *self) {
  rows *r = (rows *)self;
  if (r->at >= r->view->count) return NULL;
  int64_t i = r->at;
  PyObject *items[FIELDS] = {PyLong_FromLongLong(r->view->offsets[i]), timestamp(r, r->view->timestamps[i]),
                             field(&r->view->keys, i), field(&r->view->values, i), headers(r, i)};
  PyObject *record = NULL;
  if (items[OFFSET] && items[TIMESTAMP] && items[KEY] && items[VALUE] && items[HEADERS]) record = blank(r);
  if (!record) {
    for (int field = 0; field < FIELDS; field++) Py_XDECREF(items[field]);
    return NULL;
  }
  for (int field = 0; field < FIELDS; field++) (void)PyTuple_SetItem(record, field, items[field]);
  r->at = i + 1;
  return Py_NewRef(record);
}

/* Rows(owner, view, made, decode_headers). view: the address of a plog_columns_view, which lives as long as owner. */
static PyObject *rows_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
  PyObject *owner, *made, *decode_headers;
  unsigned long long view;
  (void)keywords;
  if (!PyArg_ParseTuple(args, "OKO!O", &owner, &view, &PyType_Type, &made, &decode_headers)) return NULL;
  if (!PyType_IsSubtype((PyTypeObject *)made, &PyTuple_Type)) {
    PyErr_SetString(PyExc_TypeError, "a class of tuples is wanted");
    return NULL;
  }
  rows *r = (rows *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (!r) return NULL;
  r->owner = Py_NewRef(owner);
  r->made = (PyTypeObject *)Py_NewRef(made);
  r->allocate = (allocfunc)PyType_GetSlot(r->made, Py_tp_alloc);
  r->decode_headers = Py_NewRef(decode_headers);
  r->view = (const plog_columns_view *)(uintptr_t)view;
  r->no_headers = PyTuple_New(0);
  if (!r->no_headers) Py_CLEAR(r);
  return (PyObject *)r;
}

static void rows_free(PyObject *self) {
  rows *r = (rows *)self;
  PyTypeObject *type = Py_TYPE(self);
  Py_XDECREF(r->owner);
  Py_XDECREF((PyObject *)r->made);
  Py_XDECREF(r->decode_headers);
  Py_XDECREF(r->no_headers);
  Py_XDECREF(r->given[0]);
  Py_XDECREF(r->given[1]);
  Py_XDECREF(r->time);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "Rows(owner, view, made, decode_headers): an iterator over the records of a decode."},
    {Py_tp_new, rows_new},
    {Py_tp_dealloc, rows_free},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, rows_next},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    .name = "pylog._rows.Rows", .basicsize = sizeof(rows), .flags = Py_TPFLAGS_DEFAULT, .slots = rows_slots};

/* ---------------------------------------------------------------------------------------------- memory */

typedef struct {
  PyObject_HEAD PyObject *owner; /* of what data points to */
  const void *data;
  Py_ssize_t size_bytes;
} memory;

/* What of a view is wanted: the names that follow are constants of the module. */
enum { OFFSETS, TIMESTAMPS, KEYS, VALUES, DATA = 0, ENDS = 4, NULLS = 8 };

static int find(memory *m, const plog_columns_view *view, int which) {
  const plog_bytes_column *column = (which & 3) == KEYS ? &view->keys : &view->values;
  int64_t count = view->count;
  switch (which) {
  case OFFSETS: m->data = view->offsets, m->size_bytes = (Py_ssize_t)(8 * count); return 0;
  case TIMESTAMPS: m->data = view->timestamps, m->size_bytes = (Py_ssize_t)(8 * count); return 0;
  case KEYS | DATA:
  case VALUES | DATA: m->data = column->data, m->size_bytes = (Py_ssize_t)column->size_bytes; return 0;
  case KEYS | ENDS:
  case VALUES | ENDS: m->data = column->ends, m->size_bytes = (Py_ssize_t)(8 * (count + 1)); return 0;
  case KEYS | NULLS:
  case VALUES | NULLS: m->data = column->nulls, m->size_bytes = (Py_ssize_t)count; return 0;
  default: PyErr_SetString(PyExc_ValueError, "there is no such memory"); return -1;
  }
}

/* Memory(owner, view, which): read-only, as long as owner and view of Rows. */
static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
  PyObject *owner;
  unsigned long long view;
  int which;
  (void)keywords;
  if (!PyArg_ParseTuple(args, "OKi", &owner, &view, &which)) return NULL;
  memory *m = (memory *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (!m) return NULL;
  m->owner = Py_NewRef(owner);
  if (find(m, (const plog_columns_view *)(uintptr_t)view, which) != 0) Py_CLEAR(m);
  return (PyObject *)m;
}

static int memory_show(PyObject *self, Py_buffer *out, int flags) {
  static uint8_t nothing;
  memory *m = (memory *)self;
  return PyBuffer_FillInfo(out, self, m->size_bytes ? (void *)m->data : &nothing, m->size_bytes, 1, flags);
}

static void memory_free(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  Py_XDECREF(((memory *)self)->owner);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "Memory(owner, view, which): an array of a decode, as a read-only buffer."},
    {Py_tp_new, memory_new},
    {Py_tp_dealloc, memory_free},
    {Py_bf_getbuffer, memory_show},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "pylog._rows.Memory", .basicsize = sizeof(memory), .flags = Py_TPFLAGS_DEFAULT, .slots = memory_slots};

/* ---------------------------------------------------------------------------------------------- the module */

static int add_type(PyObject *module, const char *name, PyType_Spec *spec) {
  PyObject *type = PyType_FromSpec(spec);
  if (!type) return -1;
  int rc = PyModule_AddObjectRef(module, name, type);
  Py_DECREF(type);
  return rc;
}

static int add_all(PyObject *module) {
  static const struct {
    const char *name;
    int which;
  } names[] = {{"OFFSETS", OFFSETS},           {"TIMESTAMPS", TIMESTAMPS},      {"KEYS", KEYS},
               {"KEYS_ENDS", KEYS | ENDS},     {"KEYS_NULLS", KEYS | NULLS},    {"VALUES", VALUES},
               {"VALUES_ENDS", VALUES | ENDS}, {"VALUES_NULLS", VALUES | NULLS}};
  int rc = add_type(module, "Rows", &rows_spec);
  if (rc == 0) rc = add_type(module, "Memory", &memory_spec);
  for (size_t i = 0; i < sizeof names / sizeof *names && rc == 0; i++)
    rc = PyModule_AddIntConstant(module, names[i].name, names[i].which);
  return rc;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, add_all}, {0, NULL}};

static PyModuleDef module_def = {PyModuleDef_HEAD_INIT, .m_name = "pylog._rows", .m_doc = "What a decode found.",
                                 .m_slots = module_slots};

PyMODINIT_FUNC PyInit__rows(void) {
  return PyModuleDef_Init(&module_def);
}
