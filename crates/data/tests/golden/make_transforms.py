"""Makes the golden files of the image transforms and of the picture formats, with Pillow, torchvision and timm.

Run in this folder: python make_transforms.py
Needs Pillow, torchvision, timm and scikit-image (for its sample pictures).
Last run with Pillow 13.0.0, torchvision 0.29.2, timm 1.0.31 and scikit-image 0.26.0.

transforms.safetensors: bytes, each picture of shape [channels, height, width].
input.NAME: a picture that goes in. astronaut and chelsea have 3 channels; camera and square have 1.
The name of a case: what comes out of it. format.FILE: what the file of that name in formats/ holds.
The file's metadata has three entries, each a JSON list:
cases: name, input, op and the op's parameters.
rand_augment: what timm makes of a RandAugment string, and the arguments it gives each op at some magnitudes.
args_negative has them with the sign turned; it is null where the op has no sign. args is null where the op takes none.
formats: file and tolerance in grey levels, null for lossy files.

A picture with transparency is laid on white. 16 bits become 8 as round(value * 255 / 65535); Pillow would cut them.
A grey picture keeps 1 channel. astronaut is by NASA, public domain; chelsea and camera are CC0.
"""

import json
import os
import shutil
import struct
import zlib
from unittest import mock

import numpy as np
from PIL import Image, ImageOps
from skimage import data
from timm.data import auto_augment, create_transform
from torchvision.transforms import InterpolationMode, functional

FILL = [124, 116, 104]
GREY_FILL = [116]
FILTERS = ["bilinear", "bicubic", "lanczos"]
# The passes of Adam7: first column and row, then the steps between columns and rows.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def inputs():
    """The source pictures. Odd sizes, one lying and one standing."""
    astronaut = Image.fromarray(data.astronaut()).crop((0, 0, 512, 380))
    chelsea = Image.fromarray(data.chelsea()).crop((100, 0, 305, 300))
    camera = Image.fromarray(data.camera())
    return {
        "astronaut": astronaut.resize((58, 43), Image.Resampling.LANCZOS),
        "chelsea": chelsea.resize((39, 57), Image.Resampling.LANCZOS),
        "camera": camera.crop((80, 40, 512, 384)).resize((54, 43), Image.Resampling.LANCZOS),
        "square": camera.crop((180, 40, 310, 170)).resize((33, 33), Image.Resampling.LANCZOS),
    }


def geometry_arguments(case):
    resample = Image.Resampling[case["interpolation"].upper()]
    return {"resample": resample, "fillcolor": tuple(case["fill"])}


def evaluation(picture, case):
    transform = create_transform(
        input_size=(3, *case["size"]),
        is_training=False,
        crop_pct=case["crop_pct"],
        crop_mode=case["crop_mode"],
        interpolation=case["interpolation"],
        normalize=False,
    )
    return transform(picture).permute(1, 2, 0)


def pad_crop(picture, case):
    padded = functional.pad(picture, case["padding"], fill=0)
    return functional.crop(padded, case["top"], case["left"], picture.height, picture.width)


def resized_crop(picture, case):
    box = [case[side] for side in ("top", "left", "height", "width")]
    return functional.resized_crop(picture, *box, case["size"], InterpolationMode(case["interpolation"]))


OPS = {
    "resize": lambda p, c: functional.resize(p, c["size"], InterpolationMode(c["interpolation"])),
    "resized_crop": resized_crop,
    "eval": evaluation,
    "hflip": lambda p, c: functional.hflip(p),
    "vflip": lambda p, c: functional.vflip(p),
    "pad_crop": pad_crop,
    "auto_contrast": lambda p, c: auto_augment.auto_contrast(p),
    "equalize": lambda p, c: auto_augment.equalize(p),
    "invert": lambda p, c: auto_augment.invert(p),
    "posterize": lambda p, c: auto_augment.posterize(p, c["bits"]),
    "solarize": lambda p, c: auto_augment.solarize(p, c["threshold"]),
    "solarize_add": lambda p, c: auto_augment.solarize_add(p, c["add"]),
    "color": lambda p, c: auto_augment.color(p, c["factor"]),
    "contrast": lambda p, c: auto_augment.contrast(p, c["factor"]),
    "brightness": lambda p, c: auto_augment.brightness(p, c["factor"]),
    "sharpness": lambda p, c: auto_augment.sharpness(p, c["factor"]),
    "hue": lambda p, c: functional.adjust_hue(p, c["factor"]),
    "grayscale": lambda p, c: functional.rgb_to_grayscale(p, 3),
    "gaussian_blur": lambda p, c: auto_augment.gaussian_blur(p, c["radius"]),
    "rotate": lambda p, c: auto_augment.rotate(p, c["degrees"], **geometry_arguments(c)),
    "shear_x": lambda p, c: auto_augment.shear_x(p, c["factor"], **geometry_arguments(c)),
    "shear_y": lambda p, c: auto_augment.shear_y(p, c["factor"], **geometry_arguments(c)),
    "translate_x": lambda p, c: auto_augment.translate_x_abs(p, c["pixels"], **geometry_arguments(c)),
    "translate_y": lambda p, c: auto_augment.translate_y_abs(p, c["pixels"], **geometry_arguments(c)),
}

# For each op, the key of its one parameter, then the input and the value of each case.
ONE_PARAMETER = {
    "posterize": ("bits", [("astronaut", 2), ("camera", 1), ("camera", 4), ("camera", 7), ("camera", 8)]),
    "solarize": ("threshold", [("chelsea", 128), ("camera", 0), ("camera", 77), ("camera", 255), ("camera", 256)]),
    "solarize_add": ("add", [("astronaut", 55), ("camera", 0), ("camera", 110), ("camera", 128)]),
    "color": (
        "factor",
        [("astronaut", f) for f in (-0.4, 0.37, 1.9)] + [("chelsea", f) for f in (0.0, 1.0)] + [("camera", 1.5)],
    ),
    "contrast": (
        "factor",
        [("chelsea", -0.4), ("astronaut", 0.37), ("astronaut", 1.9)] + [("camera", f) for f in (0.0, 0.1, 1.0, 1.35)],
    ),
    "brightness": (
        "factor",
        [("astronaut", 0.37), ("chelsea", 1.9)] + [("camera", f) for f in (-0.4, 0.0, 0.82, 1.0, 1.35)],
    ),
    "sharpness": (
        "factor",
        [("chelsea", 0.1), ("astronaut", 1.9)] + [("camera", f) for f in (-0.4, 0.0, 0.82, 1.0, 3.7)],
    ),
    "hue": (
        "factor",
        [("astronaut", f) for f in (-0.5, 0.003, 0.2)]
        + [("chelsea", f) for f in (-0.13, 0.0, 0.5)]
        + [("camera", 0.2)],
    ),
    "gaussian_blur": (
        "radius",
        [("astronaut", 1.3), ("chelsea", 2.0)] + [("camera", r) for r in (0.1, 0.5, 1.3, 2.0, 4.0, 30.0)],
    ),
}

# For each op, the key of its parameter, then the input, the value and the interpolation of each case.
GEOMETRY = {
    "rotate": (
        "degrees",
        [
            ("astronaut", 13.5, "bilinear"),
            ("chelsea", -27.0, "bicubic"),
            ("camera", -13.5, "bilinear"),
            ("camera", 2.25, "bicubic"),
            ("camera", 0.0, "bilinear"),
            ("camera", 30.0, "bicubic"),
            ("camera", 90.0, "bicubic"),
            ("camera", 180.0, "bicubic"),
            ("square", 90.0, "bilinear"),
            ("square", -90.0, "bicubic"),
            ("square", 45.0, "bilinear"),
        ],
    ),
    "shear_x": (
        "factor",
        [
            ("astronaut", 0.27, "bicubic"),
            ("camera", -0.3, "bilinear"),
            ("camera", 0.1, "bilinear"),
            ("camera", 0.0, "bicubic"),
        ],
    ),
    "shear_y": (
        "factor",
        [("chelsea", -0.27, "bilinear"), ("camera", 0.3, "bicubic"), ("camera", -0.1, "bicubic")],
    ),
    "translate_x": (
        "pixels",
        [
            ("chelsea", 18.225, "bicubic"),
            ("camera", -21.87, "bilinear"),
            ("camera", 7.0, "bicubic"),
            ("camera", -60.0, "bilinear"),
        ],
    ),
    "translate_y": (
        "pixels",
        [("astronaut", -20.655, "bilinear"), ("camera", 17.415, "bicubic"), ("camera", -5.0, "bilinear")],
    ),
}

# Input, size, part of the picture that is kept, how, and the interpolation.
EVALUATIONS = [
    ("astronaut", [32, 32], 0.875, "center", "bicubic"),
    ("chelsea", [32, 32], 0.875, "center", "bicubic"),
    ("astronaut", [28, 28], 0.9, "center", "bilinear"),
    ("chelsea", [31, 31], 0.9, "center", "bilinear"),
    ("astronaut", [29, 29], 0.95, "center", "lanczos"),
    ("chelsea", [30, 30], 0.95, "center", "bicubic"),
    ("chelsea", [32, 32], 1.0, "center", "bicubic"),
    ("camera", [64, 64], 0.875, "center", "bicubic"),
    ("camera", [43, 43], 1.0, "center", "bilinear"),
    ("astronaut", [24, 36], 0.875, "center", "bicubic"),
    ("astronaut", [36, 24], 0.9, "center", "bilinear"),
    ("chelsea", [24, 37], 0.95, "center", "bicubic"),
    ("chelsea", [41, 21], 1.0, "center", "bilinear"),
    ("camera", [33, 50], 0.9, "center", "bicubic"),
    ("astronaut", [32, 32], 0.875, "squash", "bicubic"),
    ("chelsea", [31, 31], 0.9, "squash", "bilinear"),
    ("chelsea", [28, 28], 1.0, "squash", "bicubic"),
    ("astronaut", [26, 39], 0.95, "squash", "bicubic"),
    ("camera", [37, 22], 0.875, "squash", "lanczos"),
]

CROPS = [
    ("astronaut", (3, 11, 40, 37), [32, 32], "bicubic"),
    ("chelsea", (10, 0, 47, 39), [24, 24], "bilinear"),
    ("astronaut", (30, 44, 9, 13), [30, 28], "bicubic"),
    ("camera", (1, 2, 41, 31), [24, 40], "bilinear"),
    ("camera", (5, 7, 24, 24), [24, 24], "bicubic"),
    ("camera", (0, 10, 43, 20), [16, 16], "lanczos"),
]


def cases():
    """All cases, as in the metadata but for their names."""
    # Smaller, larger, one side of each, strongly smaller, and one side kept. Pillow 13 takes the columns first where
    # the height loses more than twice what the width does.
    for interpolation in FILTERS:
        for name, size in [
            ("astronaut", [20, 31]),
            ("chelsea", [23, 31]),
            ("camera", [61, 70]),
            ("camera", [60, 30]),
            ("camera", [20, 80]),
            ("astronaut", [7, 5]),
            ("camera", [43, 20]),
            ("camera", [20, 54]),
            ("square", [1, 1]),
        ]:
            yield {"input": name, "op": "resize", "size": size, "interpolation": interpolation}
    for name, (top, left, height, width), size, interpolation in CROPS:
        box = {"top": top, "left": left, "height": height, "width": width}
        yield {"input": name, "op": "resized_crop", **box, "size": size, "interpolation": interpolation}
    for name, size, crop_pct, crop_mode, interpolation in EVALUATIONS:
        how = {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
        yield {"input": name, "op": "eval", "size": size, **how}
    for name, top, left in [("astronaut", 0, 7), ("chelsea", 8, 3), ("camera", 4, 4), ("camera", 1, 8)]:
        yield {"input": name, "op": "pad_crop", "padding": 4, "top": top, "left": left}
    for op, names in [
        ("auto_contrast", ["chelsea", "camera", "square"]),
        ("equalize", ["astronaut", "chelsea", "camera", "square"]),
        ("invert", ["chelsea", "camera"]),
        ("grayscale", ["astronaut", "chelsea"]),
        ("hflip", ["astronaut", "camera"]),
        ("vflip", ["chelsea", "camera"]),
    ]:
        for name in names:
            yield {"input": name, "op": op}
    for op, (key, values) in ONE_PARAMETER.items():
        for name, value in values:
            yield {"input": name, "op": op, key: value}
    for op, (key, values) in GEOMETRY.items():
        for name, value, interpolation in values:
            fill = FILL if name in ("astronaut", "chelsea") else GREY_FILL
            yield {"input": name, "op": op, key: value, "interpolation": interpolation, "fill": fill}


def case_name(case):
    """The op, the input and the parameters but for the fill, as one word."""
    parts = [case["op"], case["input"]]
    for key, value in case.items():
        if key not in ("op", "input", "fill"):
            parts.append("x".join(str(v) for v in value) if isinstance(value, list) else str(value))
    return "_".join(parts)


def planes(picture):
    """The bytes of a picture as [channels, height, width]."""
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1).copy()


def arguments(op, magnitudes, random_number):
    """What timm passes an op at each magnitude, when its random number is the given one."""
    with mock.patch("random.random", return_value=random_number):
        return {str(m): list(op.level_fn(m, op.hparams)) for m in magnitudes}


def rand_augment(config):
    """What timm makes of a RandAugment string."""
    transform = auto_augment.rand_augment_transform(config)
    first = transform.ops[0]
    magnitudes = [0, 2.5, 5, 9, 10] + ([15, 30] if first.magnitude_max else [])
    ops = []
    for op in transform.ops:
        args = negative = None
        if op.level_fn is not None:
            args = arguments(op, magnitudes, 0.0)
            negative = arguments(op, magnitudes, 1.0)
        ops.append({"name": op.name, "args": args, "args_negative": negative if negative != args else None})
    return {
        "config": config,
        "num_layers": transform.num_layers,
        "prob": first.prob,
        "magnitude": first.magnitude,
        "magnitude_std": first.magnitude_std,
        "magnitude_max": first.magnitude_max,
        "ops": ops,
    }


def on_white(colour, alpha):
    """Lays a picture on white: colour and alpha are [channels, height, width]."""
    colour, alpha = colour.astype(np.int64), alpha.astype(np.int64)
    return np.rint((colour * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)


def eight_bits(values):
    return np.rint(values.astype(np.float64) * 255 / 65535).astype(np.uint8)


def decoded(path):
    """What a picture file holds, as Pillow reads it."""
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode == "I;16":
            return eight_bits(np.asarray(picture))[None]
        if picture.mode == "LA":
            pixels = planes(picture)
            return on_white(pixels[:1], pixels[1:])
        if picture.has_transparency_data:
            pixels = planes(picture.convert("RGBA"))
            return on_white(pixels[:3], pixels[3:])
        return planes(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def write_png(path, pixels, colour_type, interlaced=False):
    """Writes pixels [height, width, channels] of 8 or 16 bits, in the order of Adam7 if asked for."""
    height, width = pixels.shape[:2]
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    lines = b""
    for left, top, step_x, step_y in passes:
        part = pixels[top::step_y, left::step_x]
        lines += b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in part)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, pixels.dtype.itemsize * 8, colour_type, 0, 0, int(interlaced))
    with open(path, "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n")
        out.write(chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))


def write_jpegs(picture, grey):
    """Writes the JPEG files and gives their names."""
    picture.save("formats/baseline.jpg", quality=90, subsampling="4:2:0")
    picture.save("formats/progressive.jpg", quality=90, subsampling="4:2:0", progressive=True)
    grey.save("formats/grey.jpg", quality=90)
    # Half of the grey part goes to the black ink. Pillow writes all four inks inverted, as Adobe does.
    inks = 255 - np.asarray(picture)
    black = inks.min(axis=2, keepdims=True) // 2
    cmyk = np.concatenate([inks - black, black], axis=2)
    Image.frombytes("CMYK", picture.size, cmyk.tobytes()).save("formats/cmyk.jpg", quality=90)
    names = ["baseline.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg"]
    for orientation in [3, 6, 8]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        names.append(f"orientation_{orientation}.jpg")
        picture.save(f"formats/{names[-1]}", quality=90, subsampling="4:4:4", exif=exif)
    return names


def write_pngs(picture, grey):
    """Writes the PNG files and gives what those hold that Pillow would not read in full, by name."""
    pixels, grey_pixels = np.asarray(picture), np.asarray(grey)
    alpha = Image.fromarray(np.flipud(grey_pixels))
    # Some of it fully clear, some fully opaque.
    alpha = alpha.point(lambda a: min(max((a - 40) * 2, 0), 255))
    palette = picture.quantize(64)
    picture.save("formats/rgb.png", optimize=True)
    grey.save("formats/grey.png", optimize=True)
    palette.save("formats/palette.png", optimize=True)
    palette.save("formats/palette_alpha.png", optimize=True, transparency=bytes(range(0, 256, 8)))
    Image.merge("RGBA", [*picture.split(), alpha]).save("formats/rgba.png", optimize=True)
    Image.merge("LA", [grey, alpha]).save("formats/grey_alpha.png", optimize=True)
    # The low bytes come from another part of the picture.
    Image.fromarray(grey_pixels * np.uint16(256) + np.fliplr(grey_pixels)).save("formats/grey_16.png")
    deep = pixels * np.uint16(256) + np.fliplr(pixels)
    write_png("formats/rgb_16.png", deep, 2)
    write_png("formats/interlaced.png", pixels, 2, interlaced=True)
    write_png("formats/grey_interlaced.png", grey_pixels[..., None], 0, interlaced=True)
    grey.convert("1").save("formats/bits.png")
    return {"rgb_16.png": eight_bits(deep).transpose(2, 0, 1)}


def write_others(picture, grey):
    """Writes the WebP, BMP and GIF files."""
    picture.save("formats/lossy.webp", quality=85)
    picture.save("formats/lossless.webp", lossless=True)
    with_alpha = picture.copy()
    with_alpha.putalpha(grey)
    with_alpha.save("formats/alpha.webp", lossless=True, exact=True)
    picture.save("formats/rgb.bmp")
    frames = [picture.quantize(32), ImageOps.mirror(picture).quantize(32)]
    frames[0].save("formats/two_frames.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save("formats/transparent.gif", transparency=frames[0].getpixel((0, 0)))


def formats(source):
    """Writes the picture files. Gives their metadata and what they hold."""
    shutil.rmtree("formats", ignore_errors=True)
    os.mkdir("formats")
    picture = source.crop((15, 5, 48, 30))
    grey = picture.convert("L")
    lossy = [*write_jpegs(picture, grey), "lossy.webp"]
    read = write_pngs(picture, grey)
    write_others(picture, grey)
    listed, tensors = [], {}
    for name in sorted(os.listdir("formats")):
        listed.append({"file": name, "tolerance": None if name in lossy else 0})
        tensors[f"format.{name}"] = read[name] if name in read else decoded(f"formats/{name}")
    return listed, tensors


def write_safetensors(path, tensors, metadata):
    """Writes tensors of bytes. The safetensors package would put the metadata in another order on each run."""
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        assert tensor.dtype == np.uint8, name
        header[name] = {"dtype": "U8", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        for tensor in tensors.values():
            out.write(tensor.tobytes())


def main():
    pictures = inputs()
    tensors = {f"input.{name}": planes(picture) for name, picture in pictures.items()}
    listed = []
    for case in cases():
        name = case_name(case)
        assert name not in tensors, name
        tensors[name] = planes(OPS[case["op"]](pictures[case["input"]], case))
        listed.append({"name": name, **case})
    format_list, format_tensors = formats(pictures["astronaut"])
    tensors |= format_tensors
    configs = ["rand-m9-mstd0.5-inc1", "rand-m15-n2-inc1-mmax30", "rand-m7-mstd0.5"]
    metadata = {
        "cases": listed,
        "rand_augment": [rand_augment(config) for config in configs],
        "formats": format_list,
    }
    write_safetensors("transforms.safetensors", tensors, {key: json.dumps(value) for key, value in metadata.items()})


if __name__ == "__main__":
    main()
