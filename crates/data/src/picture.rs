//! Picture files (PNG, JPEG, …): one as a model's input, decoded in memory, and many with labels. Which there are is
//! found in [`crate::folder`] and [`crate::shards`].

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::preprocessing::Preprocessing;
use crate::resize::MAX_SIDE;
use crate::samples::{Image, Labels, Samples};
use crate::shards::{Member, Shard};
use crate::transform::{SampleAddress, Scratch, Transform};
use crate::{DataError, Result, files};

/// Pictures in files of their own or in tar files, each read and decoded when it is asked for.
#[derive(Debug, Default)]
pub struct Pictures {
    pub(crate) labels: Labels,
    pub(crate) places: Vec<Place>,
    pub(crate) max_pixels: u64,
    /// How many files, or members of tar files, are neither a picture nor a label, or belong to no class.
    pub passed_over: usize,
}

#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Member(Arc<Shard>, Member),
}

impl Pictures {
    fn load(&self, index: usize) -> Result<(String, Vec<u8>)> {
        match &self.places[index] {
            Place::File(path) => Ok((path.display().to_string(), files::read(path)?)),
            Place::Member(shard, member) => shard.load(member),
        }
    }
}

impl Samples for Pictures {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<()> {
        let (name, bytes) = self.load(index)?;
        image.decode(&name, &bytes, self.max_pixels)
    }

    fn file(&self, index: usize) -> Result<Option<(String, Vec<u8>)>> {
        self.load(index).map(Some)
    }
}

/// Reads an image file as a model's input, `[C, H, W]`, row-major.
///
/// A grey picture becomes three equal channels if the model takes three, and a coloured one grey if it takes one. For
/// the rest see [`Image::decode`].
pub fn load_image(path: &Path, preprocessing: &Preprocessing, max_pixels: u64) -> Result<Vec<f32>> {
    decode_image(&path.display().to_string(), &files::read(path)?, preprocessing, max_pixels)
}

/// Does what [`load_image`] does for the contents of an image file. `name` is for error messages.
pub fn decode_image(
    name: &str,
    bytes: &[u8],
    preprocessing: &Preprocessing,
    max_pixels: u64,
) -> Result<Vec<f32>> {
    preprocessing.check()?;
    let mut image = Image::default();
    image.decode(name, bytes, max_pixels)?;
    let mut out = vec![0.0; preprocessing.output_shape().iter().product()];
    let address = SampleAddress { seed: 0, epoch: 0, sample: 0 };
    preprocessing.apply(address, &mut image, &mut Scratch::default(), &mut out)?;
    Ok(out)
}

/// The most pixels if nobody states another number: where Pillow begins to warn of a "decompression bomb".
pub const MAX_PIXELS: u64 = 89_478_485;

impl Image {
    /// Becomes the picture in the contents of an image file: of one channel if that is grey, else of three; turned
    /// upright where its EXIF data say how, and laid on white where it is transparent. Of an animation it is the first
    /// frame. A picture of more than `max_pixels` is refused before it is decoded, and so is a JPEG that is cut short.
    /// `name` is for error messages.
    pub fn decode(&mut self, name: &str, bytes: &[u8], max_pixels: u64) -> Result<()> {
        let failed = |source| DataError::Decode { name: name.to_owned(), source };
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let mut reader = reader.map_err(|error| failed(error.into()))?;
        let mut limits = Limits::no_limits();
        // Four channels of 16 bits. What a decoder takes beside them is bounded with them.
        limits.max_alloc = Some(max_pixels.saturating_mul(8));
        reader.limits(limits);
        if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_has_its_end(bytes) {
            let reason = "the file is cut short: the JPEG data has no end";
            return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, reason).into()));
        }
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > max_pixels {
            let name = name.to_owned();
            return Err(DataError::TooManyPixels { name, width, height, max_pixels });
        }
        if width.max(height) as usize > MAX_SIDE {
            let reason =
                format!("the picture has {width} x {height} pixels; a side has {MAX_SIDE} at most");
            return Err(failed(io::Error::other(reason).into()));
        }
        let orientation = decoder.orientation().map_err(failed)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        image.apply_orientation(orientation);
        let color = image.color();
        let channels = if color.has_color() { 3 } else { 1 };
        self.shape = [channels, image.height() as usize, image.width() as usize];
        self.pixels.clear();
        match (channels, color.has_alpha()) {
            (1, false) => self.pixels = image.into_luma8().into_raw(),
            (1, true) => self.take_planes::<2>(&image.into_luma_alpha8(), channels),
            (_, false) => self.take_planes::<3>(&image.into_rgb8(), channels),
            (_, true) => self.take_planes::<4>(&image.into_rgba8(), channels),
        }
        Ok(())
    }

    /// What kind of picture an image file holds, such as `Png Rgba8`, by its first bytes.
    pub fn kind(bytes: &[u8]) -> Option<String> {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
        let format = reader.format()?;
        let color = reader.into_decoder().ok()?.original_color_type();
        Some(format!("{format:?} {color:?}"))
    }

    /// Takes the channels of pixels of `N` bytes. Where there are more of these, the last is the pixel's opacity.
    fn take_planes<const N: usize>(&mut self, bytes: &[u8], channels: usize) {
        let (pixels, _) = bytes.as_chunks::<N>();
        self.pixels.reserve(pixels.len() * channels);
        for channel in 0..channels {
            match N > channels {
                false => self.pixels.extend(pixels.iter().map(|pixel| pixel[channel])),
                true => self.pixels.extend(pixels.iter().map(|pixel| {
                    let (value, opacity) = (u32::from(pixel[channel]), u32::from(pixel[N - 1]));
                    ((value * opacity + 255 * (255 - opacity) + 127) / 255) as u8
                })),
            }
        }
    }

    /// Turns red, green and blue into brightness, as Pillow does for its mode `L`. The picture must have three
    /// channels.
    pub(crate) fn turn_grey(&mut self) {
        self.change_pixels(|pixel| [brightness(pixel); 3]);
        self.pixels.truncate(self.pixels.len() / 3);
        self.shape[0] = 1;
    }

    /// Changes each pixel of a picture of three channels.
    pub(crate) fn change_pixels(&mut self, mut change: impl FnMut([u8; 3]) -> [u8; 3]) {
        let plane = self.pixels.len() / 3;
        let (red, others) = self.pixels.split_at_mut(plane);
        let (green, blue) = others.split_at_mut(plane);
        for (red, (green, blue)) in red.iter_mut().zip(green.iter_mut().zip(blue)) {
            [*red, *green, *blue] = change([*red, *green, *blue]);
        }
    }
}

/// Brightness by ITU-R 601 in 16-bit fixed point, rounded as Pillow rounds it.
pub(crate) fn brightness([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// Whether the marker that ends a JPEG comes after its last scan. The decoder makes up what is missing, and does not
/// say so. In compressed data neither marker occurs, and a thumbnail comes before the scans.
fn jpeg_has_its_end(bytes: &[u8]) -> bool {
    let scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]);
    scan.is_some_and(|scan| bytes[scan..].windows(2).any(|pair| pair == [0xff, 0xd9]))
}
