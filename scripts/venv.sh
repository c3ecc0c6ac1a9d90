# Source this file from the root of the project: source scripts/venv.sh EXTRA
#
# It makes .venv with the Python that PYTHON names, or else python3, and activates it. It installs the project with an
# extra (weights, test) unless that is done since pyproject.toml last changed. A .venv is made again if nothing was ever
# installed in it completely, or if PYTHON names another version.

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null || true; }

bin_of_venv() { if [ -d .venv/Scripts ]; then echo .venv/Scripts; else echo .venv/bin; fi; }  # the first on Windows

venv_is_usable() {
    [ ! -e .venv/unfinished ] && [ -e "$(bin_of_venv)/activate" ] || return 1
    local version
    version=$(version_of "$(bin_of_venv)/python")
    [ -n "$version" ] && { [ -z "${PYTHON-}" ] || [ "$version" = "$(version_of "$PYTHON")" ]; }
}

make_venv() {
    local python=${PYTHON:-python3} version
    version=$(version_of "$python")
    case $version in
        3.11 | 3.12 | 3.13) ;;
        *)
            echo "Python 3.11, 3.12 or 3.13 is needed, and $python is ${version:-not there};" \
                "name another, as in PYTHON=python3.13 $0" >&2
            return 1
            ;;
    esac
    if [ "$("$python" -c 'import platform; print(platform.system(), platform.machine())')" = "Darwin x86_64" ]; then
        echo "TensorFlow has no package for Macs with Intel processors; see docs/systems.md" >&2
        return 1
    fi
    echo "making .venv with Python $version"
    rm -rf .venv
    mkdir .venv
    touch .venv/unfinished
    "$python" -m venv .venv
}

installed=.venv/installed-$1
venv_is_usable || make_venv || exit 1
source "$(bin_of_venv)/activate"
if ! cmp -s pyproject.toml "$installed"; then
    echo "installing vggnorm[$1] into .venv"
    python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
    cp pyproject.toml "$installed"
fi
rm -f .venv/unfinished
