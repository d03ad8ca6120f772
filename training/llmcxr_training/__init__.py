"""From a folder of radiographs and reports to a checkpoint directory that the service serves."""
