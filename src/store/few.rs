//! A list that mostly holds one.

/// What costs no allocation while there is one of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Few<T> {
    /// The usual case.
    One(T),
    /// Any other number.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// Appends one.
    #[inline]
    pub fn push(&mut self, item: T) {
        if let Self::Many(many) = self
            && !many.is_empty()
        {
            many.push(item);
            return;
        }
        *self = match std::mem::take(self) {
            Self::One(first) => Self::Many(vec![first, item]),
            Self::Many(_) => Self::One(item),
        };
    }

    /// Takes out what `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Self::One(one) if keep(one) => {}
            Self::One(_) => *self = Self::default(),
            Self::Many(many) => many.retain(keep),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(many: Vec<T>) -> Self {
        Self::Many(many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        for count in 0..5 {
            let mut few = Few::default();
            (0..count).for_each(|it| few.push(it));
            let expected: Vec<usize> = (0..count).collect();
            assert_eq!(few.as_slice(), expected);
            assert_eq!((few.len(), few.is_empty()), (count, count == 0));
            few.retain(|it| *it != 0);
            assert_eq!(few.as_slice(), expected.get(1..).unwrap_or_default());
        }
    }
}
