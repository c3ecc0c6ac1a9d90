# Source this file from the root of the project: source scripts/venv.sh EXTRA
#
# It makes .venv with Python 3.11 or newer if there is none, and activates it. It installs the project with an extra
# (weights, test) unless that is done since pyproject.toml last changed.

installed=.venv/installed-$1
if [ ! -e .venv/bin/activate ]; then
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed, and $python is $("$python" --version); set PYTHON to another" >&2
        exit 1
    }
    echo "making .venv"
    "$python" -m venv .venv
fi
source .venv/bin/activate
if ! cmp --silent pyproject.toml "$installed"; then
    echo "installing vggnorm[$1] into .venv"
    python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
    cp pyproject.toml "$installed"
fi
