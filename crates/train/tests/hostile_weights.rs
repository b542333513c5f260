//! Folders of weights that are damaged, that lie, or that mean harm: each is refused in words that say what is wrong,
//! soon, and in little memory. Each begins as a copy of a folder that a library wrote.

#[path = "support/hostile.rs"]
mod hostile;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hostile::{Case, Entry, Spoil, copy, opened, peak, read, refused, rewrite};
use serde_json::{Value, json};
use vitrine_train::description::Description;

const FILE: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TIMM: &str = "timm_vit";
const VIT: &str = "hf_vit";

fn bytes(change: impl Fn(&mut Vec<u8>) + 'static) -> Spoil {
    Box::new(move |folder| {
        let mut bytes = fs::read(folder.join(FILE)).unwrap();
        change(&mut bytes);
        fs::write(folder.join(FILE), bytes).unwrap();
    })
}

/// The first bytes alone.
fn cut(length: usize) -> Spoil {
    bytes(move |bytes| bytes.truncate(length))
}

/// Where the tensors begin.
fn start(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn length(length: u64) -> Spoil {
    bytes(move |bytes| bytes[..8].copy_from_slice(&length.to_le_bytes()))
}

/// Another text in place of the head, whose length is right.
fn head(change: impl Fn(String) -> String + 'static) -> Spoil {
    bytes(move |bytes| {
        let end = start(bytes);
        let text = change(String::from_utf8(bytes[8..end].to_vec()).unwrap());
        let length = (text.len() as u64).to_le_bytes();
        *bytes = [&length, text.as_bytes(), &bytes[end..]].concat();
    })
}

/// Something else said of one tensor.
fn said(key: &'static str, value: Value) -> Spoil {
    head(move |text| {
        let mut all: Value = serde_json::from_str(&text).unwrap();
        all["norm.bias"][key] = value.clone();
        all.to_string()
    })
}

/// Other tensors in a file that is sound.
fn tensors(change: impl Fn(&mut BTreeMap<String, Entry>) + 'static) -> Spoil {
    Box::new(move |folder| rewrite(&folder.join(FILE), &change))
}

fn entry(name: impl Into<String>, shape: &'static [usize]) -> Spoil {
    let name = name.into();
    tensors(move |all| drop(all.insert(name.clone(), Entry::zeros(shape))))
}

fn without(names: &'static [&str]) -> Spoil {
    tensors(move |all| all.retain(|name, _| !names.contains(&name.as_str())))
}

fn typed(dtype: &'static str, size: usize) -> Spoil {
    tensors(move |all| {
        let (dtype, bytes) = (dtype.to_owned(), vec![0; 16 * size]);
        all.insert("norm.bias".into(), Entry { dtype, shape: vec![16], bytes });
    })
}

/// All numbers in another type.
fn converted(dtype: &'static str) -> Spoil {
    tensors(move |all| all.values_mut().for_each(|entry| entry.convert(dtype)))
}

fn number(value: f32) -> Spoil {
    tensors(move |all| {
        let bytes = &mut all.get_mut("norm.weight").unwrap().bytes;
        bytes[..4].copy_from_slice(&value.to_le_bytes());
    })
}

fn text(file: &'static str, text: impl Into<Vec<u8>>) -> Spoil {
    let text = text.into();
    Box::new(move |folder| fs::write(folder.join(file), &text).unwrap())
}

/// Another value at a path such as `model_args/depth`.
fn key(file: &'static str, path: &'static str, value: Value) -> Spoil {
    Box::new(move |folder| {
        let mut all: Value = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
        *path.split('/').fold(&mut all, |at, key| &mut at[key]) = value.clone();
        fs::write(folder.join(file), all.to_string()).unwrap();
    })
}

/// The same in our own form of `config.json`.
fn own(path: &'static str, value: Value) -> Spoil {
    let change = key(CONFIG, path, value);
    Box::new(move |folder| {
        let about = Description::beside(folder).unwrap().unwrap();
        fs::write(folder.join(CONFIG), serde_json::to_string(&about).unwrap()).unwrap();
        change(folder);
    })
}

/// The weights under another name.
fn moved(to: &'static str) -> Spoil {
    Box::new(move |folder| fs::rename(folder.join(FILE), folder.join(to)).unwrap())
}

/// Something else in the place of a file.
fn instead(file: &'static str, make: fn(&Path)) -> Spoil {
    Box::new(move |folder| {
        fs::remove_file(folder.join(file)).unwrap();
        make(&folder.join(file));
    })
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn folder(path: &Path) {
    fs::create_dir(path).unwrap();
}

fn circle(path: &Path) {
    symlink(path, path).unwrap();
}

fn nested() -> String {
    format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000))
}

/// A file of 102 GB, most of which is a hole: it takes no disk.
fn hole(folder: &Path) {
    let (file, positions) = (folder.join(FILE), 1 + 40_000_usize.pow(2));
    let mut at = 64 * positions;
    let info = json!({ "dtype": "F32", "shape": [1, positions, 16], "data_offsets": [0, at] });
    let mut head = serde_json::Map::from_iter([("pos_embed".to_owned(), info)]);
    for (name, entry) in read(&file).into_iter().filter(|(name, _)| name != "pos_embed") {
        head.insert(name, entry.info(at));
        at += entry.bytes.len();
    }
    let head = Value::Object(head).to_string();
    let length = (head.len() as u64).to_le_bytes();
    fs::write(&file, [&length, head.as_bytes()].concat()).unwrap();
    let file = File::options().write(true).open(&file).unwrap();
    file.set_len((8 + head.len() + at) as u64).unwrap();
}

/// Each is 0 numbers long; all together are more than can be counted.
fn uncountable(all: &mut BTreeMap<String, Entry>) {
    for part in ["query", "key", "value"] {
        let name = format!("vit.encoder.layer.0.attention.attention.{part}.weight");
        let shape = vec![1 << 63, 0];
        all.insert(name, Entry { shape, ..Entry::zeros(&[0]) });
    }
}

fn all_at_once(all: &mut BTreeMap<String, Entry>) {
    all.remove("norm.bias");
    all.insert("surplus".into(), Entry::zeros(&[2]));
    all.insert("cls_token".into(), Entry::zeros(&[1, 1, 17]));
    all.get_mut("head.bias").unwrap().dtype = "I32".into();
}

/// A name twice, with the same place, so that no gap tells.
fn twice(text: String) -> String {
    let all: Value = serde_json::from_str(&text).unwrap();
    let open = text.trim_end().strip_suffix('}').unwrap();
    format!(r#"{open},"norm.weight":{}}}"#, all["norm.weight"])
}

/// Weights in pieces, of which the index says that they are elsewhere.
fn pieces(folder: &Path) {
    fs::rename(folder.join(FILE), folder.join("model-00001-of-00002.safetensors")).unwrap();
    let map = json!({ "weight_map": { "head.weight": "../../../etc/passwd" } });
    fs::write(folder.join("model.safetensors.index.json"), map.to_string()).unwrap();
}

const DAMAGED: &str = "model.safetensors is truncated or no safetensors file";
const OTHER: &str = "model.safetensors is of another model";
const NOT_FINITE: &str = "model.safetensors: `norm.weight` holds a number that is not finite";
const JSON: &str = "/config.json is damaged: ";

/// The weights' file is no safetensors file.
fn damaged() -> Vec<Case> {
    let lfs =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22";
    let far = |text: String| text.replacen("[0,", "[99999999999999999999,", 1);
    let zeros = |_| {
        let zeros = "0,".repeat(4_000_000);
        format!(r#"{{"a":{{"dtype":"U8","shape":[{zeros}0],"data_offsets":[0,0]}}}}"#)
    };
    let cases: Vec<(&str, Spoil, &[&str])> = vec![
        ("no bytes", cut(0), &[]),
        ("the length cut", cut(5), &[]),
        ("the head missing", cut(8), &["there are at most 0"]),
        ("the head cut", cut(300), &["there are at most 292"]),
        ("no tensors", bytes(|b| b.truncate(start(b))), &["its tensors end at byte"]),
        ("tensors cut", bytes(|b| b.truncate(b.len() - 3)), &["its tensors end at byte"]),
        ("bytes behind", bytes(|b| b.extend([0; 9])), &["its tensors end at byte"]),
        ("a head of gigabytes", length(5 << 30), &["its head has 5368709120 bytes"]),
        ("a head of all bytes", length(u64::MAX), &["its head has 18446744073709551615"]),
        ("a head past the file", length(30_000), &["its head has 30000 bytes"]),
        ("a head of 0 bytes", length(0), &[]),
        ("a pointer of git lfs", text(FILE, lfs), &["its head has"]),
        ("no JSON", head(|text| text.replace('{', "<")), &[]),
        ("no object", head(|_| "[1, 2]".into()), &[]),
        ("a nested head", head(|_| nested()), &["recursion limit"]),
        ("no UTF-8", bytes(|bytes| bytes[10] = 0xff), &[]),
        ("an empty head", head(|_| "{}".into()), &["its tensors end at byte"]),
        ("overlapping", said("data_offsets", json!([0, 64])), &[]),
        ("a gap", said("data_offsets", json!([40_000, 40_064])), &[]),
        ("descending", said("data_offsets", json!([64, 0])), &[]),
        ("negative", said("data_offsets", json!([-64, 0])), &[]),
        ("past the file", said("data_offsets", json!([1_u64 << 40, (1_u64 << 40) + 64])), &[]),
        ("past counting", said("data_offsets", json!([u64::MAX - 64, u64::MAX])), &[]),
        ("past 64 bits", head(far), &[]),
        ("a product past counting", said("shape", json!([1_u64 << 40, 1_u64 << 40])), &[]),
        ("a size past counting", said("shape", json!([1_u64 << 62])), &[]),
        ("another size", said("shape", json!([15])), &[]),
        ("a name twice", head(twice), &["it has `norm.weight` twice"]),
        ("no type", said("dtype", json!("\u{1b}[2J".repeat(999))), &["unknown variant", "…"]),
        ("a head over the limit", entry("x".repeat(9 << 20), &[]), &["at most 8388608"]),
        ("a shape of millions", head(zeros), &[]),
    ];
    let case = |(name, spoil, words): (_, _, &[&'static str])| Case {
        name,
        golden: TIMM,
        spoil,
        words: [&[DAMAGED], words].concat(),
    };
    cases.into_iter().map(case).collect()
}

/// The weights' file is one, with weights of no use.
fn useless() -> Vec<Case> {
    let many = |all: &mut BTreeMap<String, Entry>| {
        all.extend((0..50_000).map(|i| (format!("n{i:05}"), Entry::zeros(&[1]))));
    };
    let wide = |all: &mut BTreeMap<String, Entry>| {
        let bytes = [1e300_f64; 16].iter().flat_map(|v| v.to_le_bytes()).collect();
        all.insert("norm.weight".into(), Entry { dtype: "F64".into(), shape: vec![16], bytes });
    };
    let ones = |all: &mut BTreeMap<String, Entry>| {
        all.insert("cls_token".into(), Entry::zeros(&[1; 100_000]));
    };
    let swapped = |all: &mut BTreeMap<String, Entry>| {
        all.get_mut("head.weight").unwrap().shape.reverse();
    };
    let empty = text(FILE, b"\x02\0\0\0\0\0\0\0{}".to_vec());
    let gaps: &[&str] = &["cls_token", "norm.bias", "blocks.1.mlp.fc1.weight"];
    const GAPS: &str = "missing from the file: cls_token, blocks.1.mlp.fc1.weight, norm.bias";
    let lines = "a\nerror: \u{1b}[31mall is well\u{202e}";
    let cases: Vec<(&str, Spoil, &[&str])> = vec![
        ("NaN", number(f32::NAN), &[NOT_FINITE]),
        ("infinity", number(f32::NEG_INFINITY), &[NOT_FINITE]),
        ("an infinity once it is rounded", tensors(wide), &[NOT_FINITE]),
        ("no tensors", empty, &[OTHER, "missing from the file: cls_token"]),
        ("I64", typed("I64", 8), &[OTHER, "no floats: norm.bias (I64)"]),
        ("U8", typed("U8", 1), &[OTHER, "no floats: norm.bias (U8)"]),
        ("BOOL", typed("BOOL", 1), &[OTHER, "no floats: norm.bias (BOOL)"]),
        ("F8", typed("F8_E4M3", 1), &[OTHER, "no floats: norm.bias (F8_E4M3)"]),
        ("C64", typed("C64", 8), &[OTHER, "no floats: norm.bias (C64)"]),
        ("a shape", entry("norm.bias", &[17]), &[OTHER, "norm.bias ([17] in the file, [16]"]),
        ("no axes", entry("norm.bias", &[]), &[OTHER, "norm.bias ([] in the file, [16]"]),
        ("transposed", tensors(swapped), &[OTHER, "head.weight ([16, 5] in the file, [5, 16]"]),
        ("no head", without(&["head.weight"]), &[OTHER, "missing from the file: head.weight"]),
        ("one missing", without(&["norm.bias"]), &[OTHER, "missing from the file: norm.bias"]),
        ("several missing", without(gaps), &[OTHER, GAPS]),
        ("one too many", entry("surplus", &[2]), &[OTHER, "unknown to the model: surplus"]),
        (
            "all at once",
            tensors(all_at_once),
            &[
                OTHER,
                "missing from the file: norm.bias; unknown to the model: surplus",
                "of another shape: cls_token ([1, 1, 17] in the file, [1, 1, 16] in the model)",
                "no floats: head.bias (I32)",
            ],
        ),
        ("a name with lines", entry(lines, &[2]), &[r": a\nerror: \u{1b}[31mall is well\u{202e}"]),
        ("a long name", entry("x".repeat(1 << 20), &[2]), &[OTHER, "model: xxx", "…"]),
        ("many names", tensors(many), &[OTHER, "model: n00000, n00001, ", " more"]),
        ("many axes", tensors(ones), &[OTHER, "cls_token ([1, 1, 1", "…"]),
        ("a hole", Box::new(hole), &[OTHER, "pos_embed ([1, 1600000001, 16] in the file"]),
        (
            "a pickle",
            moved("pytorch_model.bin"),
            &["pytorch_model.bin' model", "weights_only=True"],
        ),
        ("a .pth", moved("a.pth"), &["a.pth is a pickle", "python3 -c"]),
        ("a command", moved("a'; rm ~ \u{1b}\n.bin"), &[r"/a'\''; rm ~ \u{1b}\n.bin' model"]),
        ("pieces", Box::new(pieces), &["model.safetensors.index.json", "several files"]),
        ("no weights", instead(FILE, |_| ()), &["/hostile"]),
        ("a circle", instead(FILE, circle), &["/hostile"]),
        ("a folder", instead(FILE, folder), &["cannot read", FILE, "directory"]),
        ("a pipe", instead(FILE, pipe), &["cannot read", FILE, "no regular file"]),
        ("no folder", Box::new(|folder| fs::remove_dir_all(folder).unwrap()), &["cannot read"]),
    ];
    let case = |(name, spoil, words): (_, _, &[&'static str])| Case {
        name,
        golden: TIMM,
        spoil,
        words: words.to_vec(),
    };
    let joined = tensors(uncountable);
    let joined = Case { name: "joined", golden: VIT, spoil: joined, words: vec![OTHER, "query"] };
    cases.into_iter().map(case).chain([joined]).collect()
}

/// What lies beside the weights is no object, or of another kind altogether.
fn descriptions() -> Vec<Case> {
    let deep = |folder: &Path| {
        key(CONFIG, "model_args/depth", json!(1024))(folder);
        key(CONFIG, "model_args/embed_dim", json!(65_536))(folder);
    };
    let means = json!(vec![0.5; 100_000]);
    let zeros = "0,".repeat(2_000_000);
    let zeros = format!(
        r#"{{"architecture":"vit_tiny_patch16_224","model_args":{{"embed_dim":[{zeros}0]}}}}"#
    );
    let nan = r#"{"architecture": "vit_tiny_patch16_224", "crop_pct": NaN}"#;
    let zero = |path: &Path| symlink("/dev/zero", path).unwrap();
    let cases: Vec<(&str, Spoil, &[&str])> = vec![
        ("no JSON", text(CONFIG, "architecture: vit"), &[JSON]),
        ("cut", text(CONFIG, r#"{"architecture": "vit_ti"#), &[JSON, "EOF"]),
        ("empty", text(CONFIG, ""), &[JSON, "EOF"]),
        ("no UTF-8", text(CONFIG, b"{\"\xff\": 1}".to_vec()), &[JSON]),
        ("a list", text(CONFIG, "[]"), &[JSON, "expected a map"]),
        ("nothing", text(CONFIG, "{}"), &[OTHER, "of another shape"]),
        ("nested", text(CONFIG, nested()), &[JSON, "recursion limit"]),
        ("NaN", text(CONFIG, nan), &[JSON]),
        ("5 MB", text(CONFIG, " ".repeat(5 << 20)), &["cannot read", CONFIG, "over 4 MiB"]),
        ("4 MB", text(CONFIG, zeros), &["`model.width = [0, 0", "…"]),
        ("means", key(CONFIG, "pretrained_cfg/mean", means), &["`model.mean = [0.5, 0.5", "…"]),
        ("the largest", Box::new(deep), &[OTHER, "[1, 1, 65536] in the model"]),
        ("a folder", instead(CONFIG, folder), &["cannot read", CONFIG, "directory"]),
        ("a pipe", instead(CONFIG, pipe), &["cannot read", CONFIG, "no regular file"]),
        ("no end", instead(CONFIG, zero), &["cannot read", CONFIG, "no regular file"]),
        ("a circle", instead(CONFIG, circle), &["cannot read", CONFIG]),
        ("ours: -1 classes", own("num_classes", json!(-1)), &[JSON, "-1"]),
        ("ours: classes", own("num_classes", json!(1_u64 << 40)), &["`model.classes = 10995116"]),
        ("ours: no mean", own("pretrained_cfg/mean", json!([])), &["model.mean"]),
        ("ours: null", own("model/width", json!(null)), &[JSON]),
        (
            "ours: a filter",
            own("pretrained_cfg/interpolation", json!("\u{1b}".repeat(9000))),
            &[JSON, "unknown variant", "…"],
        ),
        (
            "ours: a size",
            own("pretrained_cfg/input_size", json!([3, 1_u64 << 40, u64::MAX])),
            &["model.image_size"],
        ),
        ("ours: a preset", own("model/preset", json!("\n".repeat(999))), &["model.preset", "…"]),
    ];
    let case = |(name, spoil, words): (_, _, &[&'static str])| Case {
        name,
        golden: TIMM,
        spoil,
        words: words.to_vec(),
    };
    cases.into_iter().map(case).collect()
}

/// One value that lies, in the form `path | value | words of the refusal | …`.
fn values() -> Vec<Case> {
    let tables = [
        (TIMM, CONFIG, include_str!("hostile/timm.txt")),
        (VIT, CONFIG, include_str!("hostile/transformers.txt")),
        ("hf_dinov2_swiglu", CONFIG, "mlp_ratio | 1e300 | `model.mlp_width = "),
        (VIT, "preprocessor_config.json", include_str!("hostile/processor.txt")),
        (
            "hf_dinov2",
            "preprocessor_config.json",
            "crop_size | 1e9 | preprocessor_config.json: `crop_size = 1000000000.0`",
        ),
    ];
    let case = |(golden, file, line): (_, _, &'static str)| {
        let parts: Vec<&str> = line.split(" | ").collect();
        let value = serde_json::from_str(parts[1]).unwrap_or_else(|e| panic!("{line}: {e}"));
        let (name, words) = (line, parts[2..].to_vec());
        Case { name, golden, spoil: key(file, parts[0], value), words }
    };
    let lines = tables
        .into_iter()
        .flat_map(|(golden, file, lines)| lines.lines().map(move |line| (golden, file, line)));
    lines.map(case).collect()
}

#[test]
fn hostile_weights_are_refused_in_words_and_in_bounds() {
    let cases = [damaged(), useless(), descriptions(), values()];
    let (mut count, mut wrong) = (0, Vec::new());
    for Case { name, golden, spoil, words } in cases.into_iter().flatten() {
        let folder = copy(golden);
        let path = folder.path().join("hostile");
        spoil(&path);
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| opened(&path)));
        let (message, time) = (result.map(Result::err), begin.elapsed());
        println!("{name}: {time:.1?}, {:?} kB\n  {message:?}", peak());
        if let Err(fault) = refused(message, &words) {
            wrong.push(format!("{name}: {fault}"));
        }
        if time > Duration::from_secs(10) {
            wrong.push(format!("{name}: it took {time:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 150, "{count}");
    if let Some(peak) = peak() {
        assert!(peak < 600_000, "{peak} kB");
    }
}

/// What looks odd and does no harm.
#[test]
fn what_can_be_read_is_read() {
    let numbers = ["0", "1", "2", "3", "4"];
    let labels = |value| key(CONFIG, "label_names", value);
    let index = r#"{"weight_map": {"cls_token": "../../../etc/passwd"}}"#;
    let obeyed = json!(["a\u{1b}[2J", "b\n", "\u{9b}c", "\u{202e}d", "दीदी"]);
    let escaped = [r"a\u{1b}[2J", r"b\n", r"\u{9b}c", r"\u{202e}d", "दीदी"];
    let gaps = json!({ "4": "e", "3": "d", "0": "a", "1": "b", "7": "h" });
    let cases: Vec<(Spoil, &str, [&str; 5])> = vec![
        (converted("F16"), TIMM, numbers),
        (converted("BF16"), TIMM, numbers),
        (converted("F64"), TIMM, numbers),
        (key(CONFIG, "pretrained_cfg/crop_pct", json!(0)), TIMM, numbers),
        (key(CONFIG, "model_args/num_classes", json!(0)), TIMM, numbers),
        (key(CONFIG, "nonsense", json!({ "a": [1, null] })), TIMM, numbers),
        (labels(json!(["a", "b"])), TIMM, numbers),
        (labels(json!(["a", "b", 3, "d", "e", "f"])), TIMM, numbers),
        (labels(json!({ "0": "a" })), TIMM, numbers),
        (labels(json!("abcde")), TIMM, numbers),
        (labels(obeyed.clone()), TIMM, escaped),
        (own("label_names", obeyed), TIMM, escaped),
        (own("label_names", json!(["a"])), TIMM, numbers),
        (key(CONFIG, "id2label", gaps), VIT, numbers),
        // What stands in an index beside the weights is not followed.
        (text("model.safetensors.index.json", index), TIMM, numbers),
        (text("pytorch_model.bin", "a pickle"), TIMM, numbers),
    ];
    for (i, (spoil, golden, names)) in cases.into_iter().enumerate() {
        let folder = copy(golden);
        let path = folder.path().join("hostile");
        spoil(&path);
        let mut guesses = opened(&path).unwrap_or_else(|e| panic!("case {i}: {e}"));
        guesses.sort_by_key(|guess| guess.label);
        let found: Vec<String> = guesses.into_iter().map(|guess| guess.name).collect();
        assert_eq!(found, names, "case {i}");
    }
}

/// Halves have 11 and 8 bits: so near are the logits of weights that were rounded to them.
#[test]
fn halves_give_what_the_whole_gives() {
    let logits = |folder: &Path| -> Vec<f64> {
        let mut guesses = opened(folder).unwrap();
        guesses.sort_by_key(|guess| guess.label);
        guesses.into_iter().map(|guess| guess.logit).collect()
    };
    for golden in [TIMM, VIT, "timm_deit_distilled", "hf_dinov2_swiglu"] {
        for (dtype, epsilon) in [("F64", 0.0), ("F16", 0.5_f64.powi(11)), ("BF16", 0.5_f64.powi(8))]
        {
            let folder = copy(golden);
            let path = folder.path().join("hostile");
            let before = logits(&path);
            converted(dtype)(&path);
            let largest = before.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
            let off = before.iter().zip(logits(&path)).map(|(a, b)| (a - b).abs() / largest);
            let off = off.fold(0.0, f64::max);
            println!("{golden} {dtype}: {off:.1e}");
            // The errors of some layers add up.
            assert!(off <= 16.0 * epsilon, "{golden} {dtype}: {off}");
            assert_eq!(off > 0.0, epsilon > 0.0, "{golden} {dtype}");
        }
    }
}
