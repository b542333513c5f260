//! Random changes of training pictures: functions of their address, which follow their laws. What each operation does
//! is in `transforms.rs`.

use std::sync::Arc;

use vitrine_data::augment::{Augmentation, EraseMode, Mixup, MixupMode, RandomCrop};
use vitrine_data::{
    Batch, CropMode, DataError, Image, Interpolation, Labels, Loader, LoaderConfig, MAX_PIXELS,
    Preprocessing, SampleAddress, Samples, Scratch, Transform,
};

/// Real pictures, in colour and grey.
fn pictures() -> Vec<Image> {
    let files: [&[u8]; 5] = [
        include_bytes!("golden/picture.png"),
        include_bytes!("golden/formats/grey.png"),
        include_bytes!("golden/formats/rgba.png"),
        include_bytes!("golden/formats/orientation_6.jpg"),
        include_bytes!("golden/formats/palette.png"),
    ];
    let decode = |bytes| {
        let mut image = Image::default();
        image.decode("golden", bytes, MAX_PIXELS).unwrap();
        image
    };
    files.map(decode).to_vec()
}

/// A picture that has the value of a function at each plane, row and column.
fn picture(shape: [usize; 3], value: impl Fn(usize, usize, usize) -> u8) -> Image {
    let [channels, height, width] = shape;
    let places = (0..channels * height * width)
        .map(|i| (i / (height * width), i / width % height, i % width));
    Image { pixels: places.map(|(plane, y, x)| value(plane, y, x)).collect(), shape }
}

/// The column, the row, and nothing.
fn places(height: usize, width: usize) -> Image {
    picture([3, height, width], |plane, y, x| [x, y, 0][plane] as u8)
}

fn preprocessing(channels: usize, size: (usize, usize)) -> Preprocessing {
    let statistics = |value| vec![value; channels];
    Preprocessing {
        mean: statistics(0.25),
        std: statistics(0.5),
        ..Preprocessing::new(channels, size)
    }
}

/// Everything at once.
fn all(channels: usize, size: (usize, usize)) -> Augmentation {
    Augmentation {
        preprocessing: preprocessing(channels, size),
        crop: RandomCrop::Resized,
        scale: [0.08, 1.0],
        ratio: [0.75, 4.0 / 3.0],
        padding: 0,
        hflip: 0.5,
        vflip: 0.5,
        color_jitter: 0.4,
        hue: 0.1,
        policy: Some("rand-m9-mstd0.5-inc1".parse().unwrap()),
        reprob: 0.5,
        remode: EraseMode::Pixel,
    }
}

/// Nothing, to inputs of this size in [0, 1].
fn none(channels: usize, size: (usize, usize)) -> Augmentation {
    Augmentation::none(Preprocessing::new(channels, size))
}

fn address(seed: u64, epoch: u64, sample: usize) -> SampleAddress {
    SampleAddress { seed, epoch, sample }
}

fn apply(
    transform: &dyn Transform,
    address: SampleAddress,
    image: &Image,
    scratch: &mut Scratch,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; transform.output_shape().iter().product()];
    transform.apply(address, &mut image.clone(), scratch, &mut out).unwrap();
    out
}

/// What becomes of a picture at so many addresses.
fn drawn(transform: &Augmentation, image: &Image, times: usize) -> impl Iterator<Item = Vec<f32>> {
    let mut scratch = Scratch::default();
    (0..times)
        .map(move |i| apply(transform, address(7, i as u64 / 500, i % 500), image, &mut scratch))
}

/// Values in [0, 1] as bytes.
fn byte(value: f32) -> usize {
    (value * 255.0).round() as usize
}

/// A count is that of events of this probability, within five standard deviations.
#[track_caller]
fn assert_likely(count: usize, of: usize, probability: f64) {
    let mean = of as f64 * probability;
    let allowed = 5.0 * (mean * (1.0 - probability)).sqrt();
    assert!((count as f64 - mean).abs() <= allowed, "{count} of {of}, not {mean} ± {allowed}");
}

/// Numbers have this mean and standard deviation, within five standard deviations of their mean.
#[track_caller]
fn assert_mean(values: &[f64], mean: f64, std: f64) {
    let actual = values.iter().sum::<f64>() / values.len() as f64;
    let allowed = 5.0 * std / (values.len() as f64).sqrt();
    assert!((actual - mean).abs() < allowed, "{actual}, not {mean} ± {allowed}");
    let spread = (values.iter().map(|value| (value - actual).powi(2)).sum::<f64>()
        / values.len() as f64)
        .sqrt();
    assert!((spread / std - 1.0).abs() < 0.1, "{spread}, not {std}");
}

/// Each of so many places comes equally often, by a chi-squared test that one in 10,000 even draws fails at the most.
#[track_caller]
fn assert_even(values: &[usize], places: usize) {
    let mut counts = vec![0u32; places];
    values.iter().for_each(|&value| counts[value] += 1);
    let mean = values.len() as f64 / places as f64;
    let squared: f64 = counts.iter().map(|&count| (f64::from(count) - mean).powi(2) / mean).sum();
    let free = (places - 1) as f64;
    assert!(
        squared < free + 10.0 + 5.0 * (2.0 * free).sqrt(),
        "{squared} for {places}: {counts:?}"
    );
}

#[test]
fn an_image_is_a_function_of_its_address() {
    let (transform, image) = (all(3, (24, 20)), pictures().remove(0));
    let addresses = [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (1, 0, 0),
        (0, 1, 1),
        (1, 1, 0),
        (1 << 32, 0, 0),
        (0, 2, 1),
        (0, 1, 2),
    ];
    let scratch = &mut Scratch::default();
    let images = addresses.map(|(seed, epoch, sample)| {
        let image = apply(&transform, address(seed, epoch, sample), &image, scratch);
        assert!(image.iter().all(|value| value.is_finite()));
        image
    });
    for (i, (seed, epoch, sample)) in addresses.into_iter().enumerate() {
        let again =
            apply(&transform, address(seed, epoch, sample), &image, &mut Scratch::default());
        assert_eq!(again, images[i], "{:?}", addresses[i]);
        assert!(!images[..i].contains(&images[i]), "{:?}", addresses[i]);
    }
}

/// Pictures in turn.
struct Own(Vec<Image>, Labels);

impl Samples for Own {
    fn labels(&self) -> &Labels {
        &self.1
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        image.clone_from(&self.0[index % self.0.len()]);
        Ok(())
    }
}

const MIXUP: Mixup = Mixup {
    mixup_alpha: 0.8,
    cutmix_alpha: 1.0,
    prob: 0.9,
    switch_prob: 0.5,
    mode: MixupMode::Pair,
};

#[test]
fn threads_and_a_later_start_do_not_matter() {
    let class_names = ["a", "b"].map(str::to_owned).to_vec();
    let labels = Labels::new("own", class_names, (0..60).map(|index| index % 2).collect());
    let samples = Arc::new(Own(pictures(), labels.unwrap()));
    for channels in [1, 3] {
        let transform = Arc::new(all(channels, (24, 20)));
        let batches = |workers, epoch, start| -> Vec<Batch> {
            let plain = LoaderConfig::new(8, transform.preprocessing.clone());
            let mixup = Some(MIXUP);
            let config =
                LoaderConfig { shuffle: true, seed: 5, workers, prefetch: 4, mixup, ..plain };
            let loader =
                Loader::with_transform(samples.clone(), config, transform.clone()).unwrap();
            loader.epoch(epoch, start).map(Result::unwrap).collect()
        };
        let expected = batches(0, 2, 0);
        assert_eq!(expected.len(), 8);
        for (workers, start) in [(0, 5), (1, 0), (1, 3), (4, 0), (4, 4)] {
            assert_eq!(
                batches(workers, 2, start),
                expected[start..],
                "{workers} workers, from {start}"
            );
        }
        assert!(batches(0, 3, 0).iter().zip(&expected).all(|(a, b)| a.images != b.images));
        for batch in &expected {
            for row in batch.shares.chunks(batch.shares.len() / batch.labels.len()) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
            }
        }
    }
}

#[test]
fn without_augmentation_an_image_is_that_of_evaluation() {
    for (channels, size, crop_mode) in [
        (3, (24, 20), CropMode::Squash),
        (3, (20, 20), CropMode::Center),
        (1, (40, 40), CropMode::Center),
    ] {
        let interpolation = Interpolation::Bicubic;
        let preprocessing = Preprocessing {
            interpolation,
            crop_pct: 0.875,
            crop_mode,
            ..preprocessing(channels, size)
        };
        let transform = Augmentation::none(preprocessing.clone());
        for image in pictures() {
            let [actual, expected] =
                [&transform as &dyn Transform, &preprocessing].map(|transform| {
                    apply(transform, address(1, 2, 3), &image, &mut Scratch::default())
                });
            assert_eq!(actual, expected, "{size:?}, a picture of {:?}", image.shape);
        }
    }
}

#[test]
fn flips_have_their_probabilities() {
    let image = picture([1, 4, 4], |_, y, x| (4 * y + x) as u8);
    for (hflip, vflip) in [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.2, 0.0), (0.0, 0.7)] {
        let transform = Augmentation { hflip, vflip, ..none(1, (4, 4)) };
        let mut counts = [0; 16];
        drawn(&transform, &image, 2000).for_each(|out| counts[byte(out[0])] += 1);
        // The first pixel was the first, or at the end of the row, of the column, or of both.
        for (corner, across, down) in
            [(0, false, false), (3, true, false), (12, false, true), (15, true, true)]
        {
            let share =
                |probability: f64, happens| if happens { probability } else { 1.0 - probability };
            assert_likely(counts[corner], 2000, share(hflip, across) * share(vflip, down));
        }
    }
}

#[test]
fn a_random_crop_has_its_area_and_may_lie_anywhere() {
    // A fifth of 80 x 100 pixels is 40 x 40, which need no resize.
    let crop = RandomCrop::Resized;
    let transform = Augmentation { crop, scale: [0.2; 2], ratio: [1.0; 2], ..none(3, (40, 40)) };
    let (mut tops, mut lefts) = (Vec::new(), Vec::new());
    for out in drawn(&transform, &places(80, 100), 4000) {
        let bytes: Vec<usize> = out.into_iter().map(byte).collect();
        let (left, top) = (bytes[0], bytes[1600]);
        let right = (0..1600).all(|i| bytes[i] == left + i % 40 && bytes[1600 + i] == top + i / 40);
        assert!(right, "no square of 40 x 40 pixels from ({top}, {left}) on");
        tops.push(top);
        lefts.push(left);
    }
    assert_even(&tops, 41);
    assert_even(&lefts, 61);
    // Neither tells of the other.
    let products: Vec<f64> = tops
        .iter()
        .zip(&lefts)
        .map(|(&top, &left)| (top as f64 - 20.0) * (left as f64 - 30.0))
        .collect();
    assert_mean(&products, 0.0, (140.0f64 * 310.0).sqrt());
}

/// Top, left, height and width of the parts that are cut out. Where these are enlarged, their corners stay.
fn crops(scale: [f64; 2], (height, width): (usize, usize), times: usize) -> Vec<[usize; 4]> {
    const SIDE: usize = 64;
    let transform = Augmentation { crop: RandomCrop::Resized, scale, ..none(3, (SIDE, SIDE)) };
    let corners = |out: Vec<f32>| {
        let [left, right, top, bottom] =
            [0, SIDE - 1, SIDE * SIDE, SIDE * (2 * SIDE - 1)].map(|place| byte(out[place]));
        [top, left, bottom + 1 - top, right + 1 - left]
    };
    drawn(&transform, &places(height, width), times).map(corners).collect()
}

#[test]
fn random_crops_have_even_areas_and_ratios() {
    // The largest is 45 x 34 or 34 x 45, so all fit.
    let crops = crops([0.2, 0.4], (60, 60), 3000);
    let shares: Vec<_> =
        crops.iter().map(|[_, _, height, width]| (height * width) as f64 / 3600.0).collect();
    let ratios: Vec<_> =
        crops.iter().map(|[_, _, height, width]| (*width as f64 / *height as f64).ln()).collect();
    // The standard deviation of what is even is its width over the root of 12.
    assert_mean(&shares, 0.3, 0.2 / 12f64.sqrt());
    assert_mean(&ratios, 0.0, 2.0 * (4.0f64 / 3.0).ln() / 12f64.sqrt());
    // Sides are whole: half a pixel of 20 and more.
    assert!(shares.iter().all(|share| (0.19..0.41).contains(share)));
    assert!(ratios.iter().all(|ratio| ratio.abs() < (4.0f64 / 3.0).ln() + 0.04));
    let quarter = |value: f64| ((value * 4.0) as usize).min(3);
    assert_even(&shares.iter().map(|share| quarter((share - 0.2) / 0.2)).collect::<Vec<_>>(), 4);
}

#[test]
fn a_crop_that_never_fits_is_the_middle() {
    for (size, expected) in [((10, 60), [0, 23, 10, 13]), ((60, 10), [23, 0, 13, 10])] {
        assert_eq!(crops([1.0, 1.0], size, 50), [expected; 50]);
    }
    // One that may be the whole is so where the ratio allows.
    let crops = crops([1.0, 1.0], (50, 50), 200);
    assert!(
        crops
            .iter()
            .all(|[_, _, height, width]| (43..=50).contains(height) && (43..=50).contains(width))
    );
}

#[test]
fn a_padded_crop_may_lie_anywhere() {
    let image = picture([1, 8, 8], |_, y, x| (1 + 8 * y + x) as u8);
    let transform = Augmentation { crop: RandomCrop::Padded, padding: 3, ..none(1, (8, 8)) };
    let mut found = Vec::new();
    for out in drawn(&transform, &image, 5000) {
        let bytes: Vec<usize> = out.into_iter().map(byte).collect();
        // The pixel at (4, 4) is never one of the border.
        let (y, x) = ((bytes[36] - 1) / 8, (bytes[36] - 1) % 8);
        for (i, &value) in bytes.iter().enumerate() {
            let (row, column) = ((i / 8 + y).wrapping_sub(4), (i % 8 + x).wrapping_sub(4));
            assert_eq!(value, if row < 8 && column < 8 { 1 + 8 * row + column } else { 0 });
        }
        found.push((y - 1) * 7 + x - 1);
    }
    assert_even(&found, 49);
}

#[test]
fn a_rectangle_is_erased() {
    const SIZE: (usize, usize) = (32, 48);
    const PLANE: usize = SIZE.0 * SIZE.1;
    let white = picture([3, SIZE.0, SIZE.1], |_, _, _| 255);
    for (reprob, remode) in
        [(0.0, EraseMode::Const), (0.25, EraseMode::Const), (1.0, EraseMode::Pixel)]
    {
        let preprocessing = preprocessing(3, SIZE);
        let transform = Augmentation { preprocessing, reprob, remode, ..none(3, SIZE) };
        let (mut noise, mut shares, mut tops, mut lefts) = (vec![], vec![], vec![], vec![]);
        for out in drawn(&transform, &white, 2000) {
            let is_erased = |place: usize| out[place] != 1.5;
            let erased: Vec<usize> = (0..PLANE).filter(|&place| is_erased(place)).collect();
            assert!((PLANE..3 * PLANE).all(|place| is_erased(place) == is_erased(place % PLANE)));
            let (Some(&first), Some(&last)) = (erased.first(), erased.last()) else { continue };
            let (height, width) =
                (last / SIZE.1 - first / SIZE.1 + 1, last % SIZE.1 + 1 - first % SIZE.1);
            let inside =
                |&place: &usize| (first % SIZE.1..=last % SIZE.1).contains(&(place % SIZE.1));
            assert!(erased.len() == height * width && erased.iter().all(inside), "no rectangle");
            // Before the sides were rounded, the area was between these.
            let (tall, wide) = (height as f64, width as f64);
            assert!((tall + 0.5) * (wide + 0.5) > 0.02 * PLANE as f64, "{height} x {width}");
            assert!((tall - 0.5) * (wide - 0.5) < PLANE as f64 / 3.0, "{height} x {width}");
            assert!((0.25..4.0).contains(&(wide / tall)), "{height} x {width}");
            shares.push(tall * wide / PLANE as f64);
            // Of the places that a rectangle of this size has: the middle of its own, as a share.
            tops.push(((first / SIZE.1) as f64 + 0.5) / (SIZE.0 - height + 1) as f64);
            lefts.push(((first % SIZE.1) as f64 + 0.5) / (SIZE.1 - width + 1) as f64);
            noise.extend(
                erased.iter().flat_map(|place| [0, 1, 2].map(|plane| out[plane * PLANE + place])),
            );
        }
        assert_likely(shares.len(), 2000, reprob);
        match remode {
            EraseMode::Const => assert!(noise.iter().all(|&value| value == 0.0)),
            EraseMode::Pixel => {
                assert!(
                    shares.iter().any(|share| *share < 0.04) && shares.iter().any(|s| *s > 0.3)
                );
                assert_mean(&tops, 0.5, 1.0 / 12f64.sqrt());
                assert_mean(&lefts, 0.5, 1.0 / 12f64.sqrt());
                assert_mean(&noise.iter().map(|&value| value.into()).collect::<Vec<_>>(), 0.0, 1.0);
                // Each channel has its own.
                assert!(
                    noise.chunks_exact(3).all(|pixel| pixel[0] != pixel[1] && pixel[1] != pixel[2])
                );
            }
        }
    }
}

#[test]
fn jitter_changes_brightness_by_no_more_than_it_says() {
    let grey = picture([3, 4, 4], |_, _, _| 128);
    for (color_jitter, darkest, brightest) in [(0.4, 76, 179), (0.1, 115, 140), (1.5, 0, 255)] {
        let transform = Augmentation { color_jitter, ..none(3, (4, 4)) };
        let mut values = Vec::new();
        for out in drawn(&transform, &grey, 2000) {
            assert!(
                out.iter().all(|value| *value == out[0]),
                "contrast and saturation change no flat grey"
            );
            values.push(byte(out[0]));
        }
        let (low, high) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
        assert!((darkest..=darkest + 2).contains(&low), "{low} for {color_jitter}");
        assert!((brightest - 2..=brightest).contains(&high), "{high} for {color_jitter}");
        if color_jitter < 1.0 {
            // Rounded down, by half a grey level on average.
            let factors: Vec<f64> =
                values.iter().map(|&value| (value as f64 + 0.5) / 128.0).collect();
            assert_mean(&factors, 1.0, 2.0 * color_jitter / 12f64.sqrt());
        }
    }
}

/// What is drawn for one purpose tells nothing of what is drawn for another.
#[test]
fn a_flip_and_an_erasure_come_together_by_chance_alone() {
    let image = picture([1, 8, 8], |_, y, x| if (y, x) == (0, 0) { 255 } else { 128 });
    let transform = Augmentation { hflip: 0.5, reprob: 0.5, ..none(1, (8, 8)) };
    let mut counts = [0; 4];
    for out in drawn(&transform, &image, 4000) {
        let (flipped, erased) = (byte(out[7]) == 255, out.contains(&0.0));
        // The one corner that tells is erased itself, in some.
        if byte(out[0]) == 255 || flipped {
            counts[usize::from(flipped) + 2 * usize::from(erased)] += 1;
        }
    }
    let (plain, both) = (counts[0] + counts[1], counts[2] + counts[3]);
    assert_likely(plain, 4000, 0.5);
    assert_likely(counts[1], plain, 0.5);
    assert_likely(counts[3], both, 0.5);
}
