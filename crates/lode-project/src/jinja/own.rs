//! Lists and maps that change in place, as Python's do.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use parking_lot::Mutex;

/// A list; copies of the value are the same list.
#[derive(Debug, Default)]
pub(crate) struct PyList(Mutex<Vec<Value>>);

/// A map in insertion order; copies of the value are the same map.
#[derive(Debug, Default)]
pub(crate) struct PyDict(Mutex<IndexMap<Value, Value>>);

pub(crate) fn list(items: Vec<Value>) -> Value {
    Value::from_object(PyList(Mutex::new(items)))
}

pub(crate) fn dict(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
    Value::from_object(PyDict(Mutex::new(entries.into_iter().collect())))
}

pub(crate) fn tuple(items: Vec<Value>) -> Value {
    Value::from_object(Tuple::new(items))
}

/// Makes plain lists and maps changeable, all the way down; everything else stays as it is.
pub(crate) fn own(value: Value) -> Value {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if is_plain_list(&value) => match value.try_iter() {
            Ok(items) => list(items.map(own).collect()),
            Err(_) => value,
        },
        ValueKind::Map if is_plain_map(&value) => match value.try_iter() {
            Ok(keys) => dict(keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                (key, own(item))
            })),
            Err(_) => value,
        },
        _ => value,
    }
}

fn is_plain_list(value: &Value) -> bool {
    // A sum of lists is an object without a name; tuples and our own objects stay.
    !value.is_tuple()
        && value.downcast_object_ref::<PyList>().is_none()
        && value.downcast_object_ref::<super::table::Row>().is_none()
        && value.downcast_object_ref::<super::table::Columns>().is_none()
        && value.downcast_object_ref::<super::table::Column>().is_none()
        && value.downcast_object_ref::<super::table::Table>().is_none()
        && value.len().is_some()
}

fn is_plain_map(value: &Value) -> bool {
    value.downcast_object_ref::<IndexMap<Value, Value>>().is_some() || value.is_kwargs()
}

fn unknown() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}

fn index(key: &Value, length: usize) -> Option<usize> {
    let at = key.as_i64()?;
    let at = if at < 0 { at + length as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

impl Object for PyList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let items = self.0.lock();
        items.get(index(key, items.len())?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.lock().clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.lock().len())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "append" => {
                let (item,): (Value,) = from_args(args)?;
                self.0.lock().push(item);
            }
            "extend" => {
                let (items,): (Value,) = from_args(args)?;
                let items: Vec<Value> = items.try_iter()?.collect();
                self.0.lock().extend(items);
            }
            "insert" => {
                let (at, item): (i64, Value) = from_args(args)?;
                let mut items = self.0.lock();
                let length = items.len() as i64;
                let at = if at < 0 { (at + length).max(0) } else { at.min(length) };
                items.insert(at as usize, item);
            }
            "remove" => {
                let (item,): (Value,) = from_args(args)?;
                let mut items = self.0.lock();
                let at = items.iter().position(|known| *known == item).ok_or_else(|| not_in("list.remove(x)"))?;
                items.remove(at);
            }
            "pop" => {
                let (at,): (Option<i64>,) = from_args(args)?;
                let mut items = self.0.lock();
                let length = items.len();
                let at = index(&Value::from(at.unwrap_or(-1)), length);
                let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "pop: index out of range"))?;
                return Ok(items.remove(at));
            }
            "sort" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                let reverse: Option<bool> = kwargs.get("reverse")?;
                kwargs.assert_all_used()?;
                let mut items = self.0.lock();
                items.sort();
                if reverse == Some(true) {
                    items.reverse();
                }
            }
            "reverse" => self.0.lock().reverse(),
            "clear" => self.0.lock().clear(),
            "copy" => return Ok(list(self.0.lock().clone())),
            "index" => {
                let (item,): (Value,) = from_args(args)?;
                let at = self.0.lock().iter().position(|known| *known == item);
                return at.map(Value::from).ok_or_else(|| not_in("list.index(x)"));
            }
            "count" => {
                let (item,): (Value,) = from_args(args)?;
                return Ok(Value::from(self.0.lock().iter().filter(|known| **known == item).count()));
            }
            _ => return Err(unknown()),
        }
        Ok(Value::from(()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::python::repr_list(&self.0.lock().clone()))
    }
}

fn not_in(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what}: x not in list"))
}

impl Object for PyDict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.lock().keys().cloned().collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.lock().len())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "items" => {
                let entries = self.0.lock().clone();
                return Ok(Value::from_iter(entries.into_iter().map(|(key, value)| tuple(vec![key, value]))));
            }
            "keys" => return Ok(list(self.0.lock().keys().cloned().collect())),
            "values" => return Ok(list(self.0.lock().values().cloned().collect())),
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                return Ok(self.0.lock().get(&key).cloned().or(default).unwrap_or_else(|| Value::from(())));
            }
            "update" => {
                for argument in args {
                    let entries = entries_of(argument)?;
                    self.0.lock().extend(entries);
                }
            }
            "pop" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = self.0.lock().shift_remove(&key).or(default);
                return found.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("pop: no key {key}")));
            }
            "setdefault" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let default = default.unwrap_or_else(|| Value::from(()));
                return Ok(self.0.lock().entry(key).or_insert(default).clone());
            }
            "popitem" => {
                let last = self.0.lock().pop();
                let (key, value) =
                    last.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "popitem: the dictionary is empty"))?;
                return Ok(tuple(vec![key, value]));
            }
            "clear" => self.0.lock().clear(),
            "copy" => return Ok(dict(self.0.lock().clone())),
            _ => return Err(unknown()),
        }
        Ok(Value::from(()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::python::repr_dict(self.0.lock().clone()))
    }
}

/// Entries of a map, or of a list of pairs.
pub(crate) fn entries_of(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    if value.kind() == ValueKind::Map {
        let keys = value.try_iter()?;
        return keys.map(|key| Ok((key.clone(), value.get_item(&key)?))).collect();
    }
    let pairs = value.try_iter()?;
    pairs.map(|pair| Ok((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?))).collect()
}
