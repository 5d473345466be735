"""What is to be known of a video, in sentences."""

from workers.ops.video_files import warnings_of


def test_segments_are_named_in_their_order_and_not_in_that_of_texts() -> None:
    slides = {str(scene): "no clip" for scene in (10, 0, 2)}
    video = {
        "status": "completed",
        "source": "concept",
        "layout": "scenes",
        "details": {"slides": slides, "unusable_clips": {"1": "it is black"}},
    }
    assert [text.split()[1] for text in warnings_of(video)] == ["1", "2", "3", "11"]
    assert warnings_of(video | {"status": "failed", "layout": "clip"}) == [], "it has no slides"
