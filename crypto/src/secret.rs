//! Bytes that must not leak: wiped when dropped, never printed, compared in constant time.

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Secret bytes on the heap, wiped when dropped.
///
/// Nothing prints or encodes them; [`expose`](Self::expose) is easy to search for. `Debug` shows a
/// placeholder, so that types holding one may derive it.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes the bytes over. The caller wipes its own copy, if it kept one.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(bytes))
    }

    /// Draws one at random.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut secret = Self::zero();
        rng.fill_bytes(secret.expose_mut());
        secret
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn zero() -> Self {
        Self::new([0; N])
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Clone for Secret<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// In constant time.
impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> std::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Security test 20.
    #[test]
    fn prints_nothing() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 4])), "[secret]");
        assert_ne!(Secret::new([1, 2]), Secret::new([1, 3]));
    }
}
