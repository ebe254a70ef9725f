#pragma once
// One thread a core.
#include <bits/gthr-single.h>
