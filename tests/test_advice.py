"""Every piece of advice in a message is followed by a test, or is listed here as no advice.

A new message with a new piece of advice fails here until a test in `tests/advice` follows it.
"""

from advice_texts import (
    ELSEWHERE,
    VALUES,
    advice_followed,
    advice_in_the_code,
    gives,
    values_in_the_code,
)

# What stands behind a semicolon and tells something, but advises nothing.
STATEMENTS = {
    "",
    # Help of the command line.
    "a .zip or .tar, or several, as in 'shards-{000..015}.tar'",
    "a model in a .keras or .h5 file",
    "it names the network.  [default: the means of Keras's VGG16 that come with vggnorm, for that "
    "network alone]",
    "or the http(s)://, s3://, gs://, az:// or hf:// address of an archive or, except for http(s), "
    "of a folder. Folders with COCO's masks are left out: annotations, stuffthingmaps*, "
    "panoptic_*, pixelmaps_*, *_pixelmaps.",
    "or the weights of a VGG in a file of any program.",
    "repeatable.  [default: three layers that differ]",
    "repeatable. Needs --annotations.",
    "the mean difference from float32 over --control photos is added. auto: time both and take the "
    "faster one.",
    "zeros if the network has none.",
    # The rest of a reason.
    "Keras does not write such a file",
    "Keras with TensorFlow then adds the bias along the width",
    "a model file is as it is",
    "at most {} are decoded",
    "at most {} are read",
    "it differs by up to {}, and its largest number is {}",
    "it gives {} instead of {}",
    "the layer may keep state that is not among its weights, or draw random numbers",
    "the weights are damaged",
    "{}: {}",
    # What is done, and what was done.
    "--preprocessing {} is used all the same",
    "if it is ended, {} photos are kept",
    "it counts none, and merge-means wants it all the same",
    "it goes on from the checkpoint, if there is one",
    "it is given them as {}",
    "it is left out",
    "measured as {}",
    "nothing was written",
    "the run goes on",
    "used",
    "waiting",
    # What is not guaranteed.
    "a power cut may lose what was written just before",
    "a program that is killed while it writes leaves half a file",
    # What was found.
    "Keras 3.11 and later load it, and Keras 2 does not",
    "by the photos measured, the mean of such a filter may be more than twice as large",
    "filters of the normalized network that it leaves smaller than 1: {}",
    "its class scores mean nothing",
    "on other photos, such a filter may fire more than twice as much",
    "only the comparison with the original tells whether its kernels are turned by 180 degrees, as "
    "Theano's are",
    "silent filters, left at scale 1: {}",
    "silent filters: none",
    "that layer was not compared.",
    "the first, {}, {}",
    "the means of a single photo have no interval to compare with",
    "the means there are not 1",
    "the original was converted to that before the two were compared.",
    "the strides and slopes of this network are not compared",
    "their intervals are symmetric, because the third moments were not measured",
    "those of the photos measured are symmetric, because their third moments are not known",
    "they were matched by order and shape.",
    "zero padding at the border of a photo then stands for another colour",
    "{} filters further off than rounding explains",
    "{} holds the network with zero padding, because Keras has no layer for the other",
    "{} passes",
}

# Advice that no machine follows on which the tests run, each with the reason.
CANNOT_BE_FOLLOWED_HERE = {
    # They change what is installed.
    "pip install --upgrade pillow",
    "pip install '.[heif]' in vggnorm's own folder",
    "pip install '.[ray]' in vggnorm's own folder",
    "pip install '.[torch]' in vggnorm's own folder",
    "pip install '.[{}]' in vggnorm's own folder",
    "{} needs {}",
    # It needs a cluster whose nodes have another version.
    "install vggnorm {}, with all that it needs, on every node",
    # It needs a remote that holds the photos.
    "run git lfs pull",
    # PyTorch 1 runs in no Python that vggnorm runs in.
    "load it in PyTorch 1.x and save it again with torch.save",
}


def test_every_piece_of_advice_is_followed_by_a_test() -> None:
    known = advice_followed() | STATEMENTS | CANNOT_BE_FOLLOWED_HERE
    open_advice = {
        f"{where}: {text}" for text, where in advice_in_the_code().items() if text not in known
    }
    assert not open_advice


def test_no_test_follows_advice_that_is_given_no_longer() -> None:
    assert advice_followed() <= set(advice_in_the_code())


def test_the_lists_hold_nothing_else() -> None:
    found = set(advice_in_the_code())
    for listed in STATEMENTS, CANNOT_BE_FOLLOWED_HERE:
        assert listed <= found
        assert not listed & advice_followed()
    assert not STATEMENTS & CANNOT_BE_FOLLOWED_HERE


def test_advice_that_is_a_value_is_listed() -> None:
    assert values_in_the_code() == VALUES
    assert set(advice_in_the_code()) >= ELSEWHERE
    assert not ELSEWHERE & STATEMENTS


def test_advice_is_recognized_in_a_message() -> None:
    assert gives("x.h5: exists already; give another name, or --force", "give another name")
    assert gives("size 0; it must be one of 1, 2", "it must be one of {}")
    assert gives("x.h5: give another name", "give another name")
    assert gives("give another name", "give another name")
    assert gives("x.h5: failed; mend that and run it again", "run it again")
    assert not gives("x.h5: never give another name", "give another name")
