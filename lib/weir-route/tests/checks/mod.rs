//! What holds for every path: shared by the replay of the corpus and the fuzz target, which
//! includes this file.

use weir_route::{PathPolicy, SlashPolicy, normalise_path};

/// The first byte chooses the policy, the rest is the path.
pub(crate) fn path_normalise(input: &[u8]) {
    let Some((&policy, path)) = input.split_first() else {
        return;
    };
    let policy = PathPolicy {
        merge_slashes: policy & 1 == 1,
        encoded_slash: if policy & 2 == 2 { SlashPolicy::Reject } else { SlashPolicy::Keep },
    };
    let mut scratch = Vec::new();
    let Ok(normal) = normalise_path(path, &policy, &mut scratch) else {
        return;
    };
    assert_eq!(normal.first(), Some(&b'/'));
    assert!(normal.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\')));
    assert!(!policy.merge_slashes || !normal.windows(2).any(|pair| pair == b"//"));

    let mut again = Vec::new();
    assert_eq!(normalise_path(normal, &policy, &mut again), Ok(normal), "normalising twice changes it");

    // However often a recipient decodes once and cuts off parameters, no segment climbs.
    let decoded = decode_once(normal);
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        assert!(name != b"..", "{:?}", String::from_utf8_lossy(normal));
    }
    assert!(!decoded.contains(&0));
}

fn decode_once(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("valid in a normal path") as u8;
                out.push(digit(high) << 4 | digit(low));
                rest = behind;
            }
            _ => out.push(*first),
        }
    }
    out
}
