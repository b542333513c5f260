//! From the element type that a tensor names to the Rust type that a kernel is generic over.

/// Runs the body with `$type` standing for the Rust type of a float dtype.
macro_rules! with_float {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $type = f32;
                $body
            }
            $crate::DType::F64 => {
                type $type = f64;
                $body
            }
            $crate::DType::BF16 => {
                type $type = $crate::bf16;
                $body
            }
            $crate::DType::U8 | $crate::DType::I64 => unreachable!("`ops` admits floats only"),
        }
    };
}

/// As `with_float`, for every dtype.
macro_rules! with_element {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            $crate::DType::U8 => {
                type $type = u8;
                $body
            }
            $crate::DType::I64 => {
                type $type = i64;
                $body
            }
            float => $crate::cpu::dispatch::with_float!(float, $type => $body),
        }
    };
}

/// Runs the body with `$sum` standing for `$type` or its accumulator, whichever has the dtype.
macro_rules! with_sum {
    ($dtype:expr, $type:ty, $sum:ident => $body:expr) => {
        if $dtype == <$type as $crate::Element>::DTYPE {
            type $sum = $type;
            $body
        } else {
            type $sum = $crate::cpu::number::Acc<$type>;
            $body
        }
    };
}

pub(crate) use {with_element, with_float, with_sum};
