//! Shapes: strides, broadcasting, limits.

use vitrine_tensor::Shape;

fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).unwrap()
}

#[test]
fn strides_are_row_major() {
    assert_eq!(shape(&[2, 3, 4]).row_major_strides().as_slice(), &[12, 4, 1]);
    assert_eq!(shape(&[]).row_major_strides().as_slice(), &[] as &[usize]);
}

#[test]
fn broadcasting_follows_numpy() {
    let joined = shape(&[4, 1, 3]).broadcast(&shape(&[2, 3]), "add").unwrap();
    assert_eq!(joined.as_slice(), &[4, 2, 3]);
    assert!(shape(&[4, 2]).broadcast(&shape(&[3]), "add").is_err());
    assert_eq!(shape(&[0, 3]).broadcast(&shape(&[1, 3]), "add").unwrap().as_slice(), &[0, 3]);
}

#[test]
fn too_many_axes_or_elements_are_errors() {
    assert!(Shape::new(&[1; 7]).is_err());
    assert!(Shape::new(&[usize::MAX, 2]).is_err());
}

#[test]
fn extents_that_cannot_be_counted_are_an_error_also_beside_a_zero() {
    for dims in
        [&[1 << 47][..], &[1 << 40, 1 << 40], &[0, 1 << 40, 1 << 40], &[1 << 40, 0, 1 << 40]]
    {
        let error = Shape::new(dims).unwrap_err().to_string();
        assert!(error.contains("below 2^47"), "{dims:?}: {error}");
    }
    assert_eq!(Shape::new(&[0, 1 << 46]).unwrap().elements(), 0);
}
