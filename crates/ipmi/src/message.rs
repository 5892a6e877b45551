//! IPMI messages (section 13.8): network function, command, data, and the sequence number that
//! ties an answer to its request.

/// Address of the BMC, and of a remote console.
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;
/// Network functions of requests; their answers have the next number.
pub(crate) const CHASSIS: u8 = 0x00;
pub(crate) const APP: u8 = 0x06;

/// A request, as it is sent any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// 0 to 63.
    pub(crate) number: u8,
    pub(crate) function: u8,
    pub(crate) command: u8,
    pub(crate) data: Vec<u8>,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The completion code; 0 is success.
    pub(crate) completion: u8,
    pub(crate) data: Vec<u8>,
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = [BMC, self.function << 2];
        let mut body = vec![CONSOLE, self.number << 2, self.command];
        body.extend(&self.data);
        frame(head, body)
    }

    /// The answer, if this message is one to this request.
    ///
    /// Checksums matter only where there is no signature (`signed` is false): some BMCs compute
    /// them wrongly.
    pub(crate) fn answer(&self, message: &[u8], signed: bool) -> Option<Answer> {
        let (head, rest) = message.split_first_chunk::<3>()?;
        let (body, sum) = rest.split_last_chunk::<1>()?;
        let (fixed, data) = body.split_first_chunk::<4>()?;
        let [_, number, command, completion] = *fixed;
        let summed = head[2] == checksum(&head[..2]) && sum[0] == checksum(body);
        let ours = head[1] >> 2 == self.function + 1
            && number >> 2 == self.number
            && command == self.command;
        (ours && (signed || summed)).then(|| Answer {
            completion,
            data: data.to_vec(),
        })
    }
}

/// The BMC's side.
#[cfg(feature = "testing")]
impl Request {
    pub(crate) fn decode(message: &[u8]) -> Option<Request> {
        let (head, rest) = message.split_first_chunk::<3>()?;
        let (body, sum) = rest.split_last_chunk::<1>()?;
        let (fixed, data) = body.split_first_chunk::<3>()?;
        let summed = head[2] == checksum(&head[..2]) && sum[0] == checksum(body);
        (summed && head[0] == BMC).then(|| Request {
            number: fixed[1] >> 2,
            function: head[1] >> 2,
            command: fixed[2],
            data: data.to_vec(),
        })
    }

    pub(crate) fn encode_answer(&self, answer: &Answer) -> Vec<u8> {
        let head = [CONSOLE, (self.function + 1) << 2];
        let mut body = vec![BMC, self.number << 2, self.command, answer.completion];
        body.extend(&answer.data);
        frame(head, body)
    }
}

fn frame(head: [u8; 2], body: Vec<u8>) -> Vec<u8> {
    let mut out = head.to_vec();
    out.push(checksum(&head));
    out.extend(&body);
    out.push(checksum(&body));
    out
}

/// With it, the bytes add up to zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        Request {
            number: 63,
            function: CHASSIS,
            command: 2,
            data: vec![0],
        }
    }

    #[test]
    fn the_request_is_what_the_specification_says() {
        assert_eq!(
            request().encode(),
            [0x20, 0x00, 0xe0, 0x81, 0xfc, 0x02, 0x00, 0x81]
        );
    }

    #[cfg(feature = "testing")]
    #[test]
    fn only_its_own_answer_is_one() {
        let request = request();
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        let answer = Answer {
            completion: 0,
            data: vec![1, 2],
        };
        let bytes = request.encode_answer(&answer);
        assert_eq!(request.answer(&bytes, false), Some(answer));
        for other in [
            Request {
                number: 62,
                ..request.clone()
            },
            Request {
                command: 1,
                ..request.clone()
            },
            Request {
                function: APP,
                ..request.clone()
            },
        ] {
            assert_eq!(other.answer(&bytes, true), None);
        }
        let mut wrong = bytes.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(request.answer(&wrong, false), None);
        assert!(request.answer(&wrong, true).is_some());
        assert_eq!(request.answer(&request.encode(), true), None, "an echo");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_not(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if request().answer(&bytes, true).is_some() {
                prop_assert!(bytes.len() >= 8 && bytes[1] >> 2 == 1);
            }
        }
    }
}
