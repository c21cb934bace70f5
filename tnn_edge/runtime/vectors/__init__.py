"""Any gate vector, one of no operating point too: block by block, and by a plan once it is asked for often."""
