//! What is done at the same time.

use std::thread::{ScopedJoinHandle, scope};

use anyhow::{Result, bail};

/// Does something with all of them at once; what came of it, in their order, or the first error.
pub fn each<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    act: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    scope(|scope| {
        let act = &act;
        let threads: Vec<_> = all
            .into_iter()
            .map(|one| scope.spawn(move || act(one)))
            .collect();
        threads.into_iter().map(result).collect()
    })
}

/// Does two things at once; what came of both, or the first one's error before the other's.
pub fn both<A, B: Send>(
    first: impl FnOnce() -> Result<A>,
    other: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    scope(|scope| {
        let other = scope.spawn(other);
        let first = first();
        let other = result(other);
        Ok((first?, other?))
    })
}

fn result<R>(thread: ScopedJoinHandle<Result<R>>) -> Result<R> {
    let ended = thread.join();
    ended.unwrap_or_else(|_| bail!("a thread of the lab has panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_counts() {
        assert_eq!(each([3, 1, 2], |one| Ok(one * 2)).unwrap(), [6, 2, 4]);
        let odd = |one: i32| match one % 2 {
            0 => Ok(()),
            _ => bail!("{one} is odd"),
        };
        assert_eq!(each([2, 3, 5], odd).unwrap_err().to_string(), "3 is odd");
        assert_eq!(both(|| Ok(1), || Ok("two")).unwrap(), (1, "two"));
        let error = both(|| odd(1), || odd(3)).unwrap_err();
        assert_eq!(error.to_string(), "1 is odd");
        assert!(both(|| odd(2), || odd(3)).is_err());
    }
}
