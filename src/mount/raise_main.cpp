// The process that raises events, as a program of its own for the tests of this module.
#include "mount/raise_program.h"

int main(int argc, char** argv) { return indra::run_raise_program(argc - 1, argv + 1); }
