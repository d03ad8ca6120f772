"""Archives: reports for a folder, a manifest or a DICOMweb query of any size, on Ray Data.

A run is a directory. `plan` lists what there is to do in shards; `worker` does one shard and writes
its Parquet part; `run` hands shards to workers and shows how far it is. A part is there wholly or
not at all, so a run that was ended goes on where it was.
"""
