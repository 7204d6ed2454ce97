#include "base/fault.h"
