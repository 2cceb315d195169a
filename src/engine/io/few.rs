//! A list that is nearly always of one: it then needs no allocation. Plain data, no behaviour.

use std::iter::Chain;
use std::ops::Deref;
use std::{mem, option, slice, vec};

/// Zero or more; see the module.
#[derive(Debug, Clone)]
pub enum Few<T> {
    /// Exactly one.
    One(T),
    /// Any other number.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        *self = match mem::take(self) {
            Few::Many(many) if many.is_empty() => Few::One(item),
            Few::One(first) => Few::Many(vec![first, item]),
            Few::Many(mut many) => {
                many.push(item);
                Few::Many(many)
            }
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => slice::from_ref(one),
            Few::Many(many) => many,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T> {
        let mut items = items.into_iter();
        let Some(first) = items.next() else { return Few::Many(Vec::new()) };
        match items.next() {
            None => Few::One(first),
            Some(second) => Few::Many([first, second].into_iter().chain(items).collect()),
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = Chain<option::IntoIter<T>, vec::IntoIter<T>>;
    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Few::One(one) => (Some(one), Vec::new()),
            Few::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(items: Vec<T>) -> Few<T> {
        items.into_iter().collect()
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Few<T>) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_reads_back_in_order() {
        for count in 0..5 {
            let items: Vec<u32> = (0..count).collect();
            let few: Few<u32> = items.iter().copied().collect();
            assert_eq!(*few, *items);
            assert!((&few).into_iter().eq(&items) && few.clone().into_iter().eq(items.iter().copied()));
            assert_eq!(few, Few::from(items.clone()));
            assert_eq!(matches!(few, Few::One(_)), count == 1);
            let mut pushed = Few::default();
            items.iter().for_each(|item| pushed.push(*item));
            assert_eq!((&pushed, matches!(pushed, Few::One(_))), (&few, count == 1));
        }
    }
}
