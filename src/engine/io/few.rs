//! A list that is nearly always of one: it then needs no allocation. Plain data, no behaviour.

use std::ops::Deref;

/// Zero or more; see the module.
#[derive(Debug, Clone)]
pub enum Few<T> {
    /// Exactly one.
    One(T),
    /// Any other number.
    Many(Vec<T>),
}

impl<T> Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => std::slice::from_ref(one),
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

impl<T> From<Vec<T>> for Few<T> {
    fn from(items: Vec<T>) -> Few<T> {
        items.into_iter().collect()
    }
}

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
            assert_eq!(few, Few::from(items));
            assert_eq!(matches!(few, Few::One(_)), count == 1);
        }
    }
}
